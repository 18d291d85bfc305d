"""The report: what its files hold, that nothing in it trusts a name, and that a folder is whole or absent."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import invoke
from PIL import Image
from report_case import (
    ATTRIBUTION,
    CLASSES,
    DATA,
    LAYERS,
    MARKUP,
    ODD,
    RULES,
    Noise,
    odd_atlas,
    odd_model,
    odd_report,
)
from studies import concept_graph_of, references_of

import crp_kit as crp
from crp_kit.errors import AtlasError, ConceptRangeError, InputError, UnknownLayerError
from crp_kit.escapes import escaped
from crp_kit.views.highlight import masked_image
from crp_kit.views.image import DEFAULT_CMAP, heatmap_image, overlay, picture
from crp_kit.views.look import Look, Style
from crp_kit.views.report import (
    Link,
    Links,
    Page,
    ReportContext,
    co_relevance,
    graph_page,
    register_page,
    unregister_page,
)
from crp_kit.views.report import samples as samples_module
from crp_kit.views.report.facts import layer_facts
from crp_kit.views.report.links import cosines
from crp_kit.views.report.samples import SampleSource
from crp_kit.views.report.sprite_sheets import SpriteSheet, thumbnail

LOOK = Look()


def sample_source(
    atlas: crp.ConceptAtlas, data: Any = DATA, *, preprocess: Any = None, references: int = 3, look: Look = LOOK
) -> Any:
    """Reference samples of an atlas as the report makes them."""
    study = crp.Study(ATTRIBUTION, data, composite=RULES, preprocess=preprocess)
    options = {"conditioned_on": "class", "receptive_field": True, "batch_size": 32, "size": 48, "look": look}
    return SampleSource(study.subject, atlas, references=references, **options)


@pytest.fixture(scope="module")
def atlas(odd_atlas_file: Path) -> Iterator[crp.ConceptAtlas]:
    with crp.ConceptAtlas(odd_atlas_file) as opened:
        yield opened


@pytest.fixture(scope="module")
def site(atlas: crp.ConceptAtlas, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return odd_report(atlas, tmp_path_factory.mktemp("site") / "report").path


def data_of(site: Path, name: str) -> Any:
    text = (site / "data" / f"{name}.js").read_text()
    start = f'crpKit.put("{name}",'
    assert text.startswith(start)
    assert text.endswith(");\n")
    assert text.isascii()
    assert "<" not in text
    return json.loads(text[len(start) : -3])


class Parsed(HTMLParser):
    """Every element of a page, with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


class TestThePage:
    @pytest.mark.slow
    def test_has_nothing_inline_and_names_only_files_that_are_there(self, site: Path) -> None:
        page = Parsed((site / "index.html").read_text(encoding="utf-8"))
        for tag, attributes in page.elements:
            assert tag not in ("style", "iframe", "object", "base", "form", "img"), tag
            assert not [name for name in attributes if name.startswith("on") or name == "style"]
            if tag in ("script", "link"):
                named = attributes.get("src") or attributes["href"]
                assert named is not None
                assert (site / named).is_file()
        policy = next(one["content"] for _, one in page.elements if one.get("http-equiv") == "Content-Security-Policy")
        assert policy is not None
        assert policy.startswith("default-src 'none'; script-src 'self' file:;")
        assert "unsafe" not in policy
        assert "http" not in policy

    def test_tells_every_attribute_of_the_atlas_and_its_rules(self, site: Path, atlas: crp.ConceptAtlas) -> None:
        said = Parsed((site / "index.html").read_text(encoding="utf-8")).texts
        for name, value in atlas.metadata.items():
            if name == "composite":
                assert set(json.loads(value)) <= set(said)
            elif isinstance(value, str) and value:
                assert value in said, name
        assert "The heatmaps have the rules that the atlas was made with." in said
        assert any(
            re.fullmatch(r"Report built .* UTC by crp-kit .* seconds; [\d,]+ files, [\d.]+ MB", one) for one in said
        )

    def test_says_when_its_heatmaps_have_other_rules(self, atlas: crp.ConceptAtlas, tmp_path: Path) -> None:
        made = odd_report(atlas, tmp_path / "report", composite=None, concept_ids=[0], references=1)
        assert "<strong>The heatmaps have other rules than the atlas</strong>" in made.index.read_text(encoding="utf-8")

    def test_signed_colours_are_those_of_every_picture(self, site: Path) -> None:
        stops = ", ".join(f"#{one}" for one in re.findall("[0-9a-f]{6}", DEFAULT_CMAP))
        assert stops in (site / "report.css").read_text()

    @pytest.mark.parametrize(("style", "scales"), [("map", 1), ("masked", 0)])
    def test_says_what_the_colours_of_its_heatmaps_mean(
        self, atlas: crp.ConceptAtlas, tmp_path: Path, style: str, scales: int
    ) -> None:
        asked = {"style": style, "percentile": 90, "cmap": "00f,80:fff,f00"}
        made = odd_report(atlas, tmp_path / "report", concept_ids=[0], references=1, **asked)
        look = data_of(made.path, "report")["look"]
        assert (look["style"], look["scale"]) == (style, "90th percentile of |relevance|")
        assert [look["ramp"][one] for one in (0, 8, 16)] == ["#0000ff", "#ffffff", "#ff0000"]
        said = made.index.read_text(encoding="utf-8")
        assert said.count('class="ramp"') == scales
        assert ("90th percentile of |relevance|" in said) == bool(scales)

    @pytest.mark.parametrize(
        ("option", "message"), [({"style": "dark"}, "style is one of"), ({"percentile": 0}, "percentile is a number")]
    )
    def test_a_look_that_is_none_is_refused(
        self, atlas: crp.ConceptAtlas, tmp_path: Path, option: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(InputError, match=message):
            odd_report(atlas, tmp_path / "report", **option)
        assert not (tmp_path / "report").exists()


class TestTheData:
    def test_tables_say_what_the_atlas_says(self, site: Path, atlas: crp.ConceptAtlas) -> None:
        about = data_of(site, "report")
        assert [one["name"] for one in about["layers"]] == list(LAYERS)
        assert about["classes"] == [escaped(name) for name in CLASSES]
        for number, name in enumerate(LAYERS):
            table, layer = data_of(site, f"layer-{number}")["table"], atlas[name]
            statistics = layer.relevance.statistics()
            assert table["concept"] == list(range(layer.n_concepts))
            assert table["relevance"] == pytest.approx(statistics.mean.tolist(), rel=1e-3)
            assert table["spread"] == pytest.approx(statistics.std.tolist(), rel=1e-3)
            assert table["activation"] == pytest.approx(layer.activation.statistics().mean.tolist(), rel=1e-3)
            for concept, cls in enumerate(table["cls"]):
                best, means = layer.classes(concept), layer.relevance.class_means().to_frame()
                surest = means[means["concept"] == concept].sort_values("low", ascending=False)
                assert cls == (surest["class"].iloc[0] if best.mean[0] > 0 else -1)
                assert table["served"][concept] == (best.mean >= best.mean[0] / 2).sum() * (best.mean[0] > 0)

    def test_concepts_have_the_samples_of_their_rankings(self, site: Path, atlas: crp.ConceptAtlas) -> None:
        for number, name in enumerate(LAYERS):
            for page in pages_of(site, number):
                for mode in ("relevance", "activation"):
                    top = atlas[name].score(mode).top(page["concept"], 3)  # type: ignore[arg-type]
                    names = [DATA.samples[one][0] for one in top.sample]
                    assert [one[0] for one in page["references"][mode]] == names
                    assert [one[2] for one in page["references"][mode]] == pytest.approx(top.score.tolist(), rel=1e-3)

    def test_the_classes_that_a_concept_serves_are_bits(self, site: Path, atlas: crp.ConceptAtlas) -> None:
        for number, name in enumerate(LAYERS):
            table, served = data_of(site, f"layer-{number}")["table"], data_of(site, f"served-{number}")
            for concept, digits in enumerate(served):
                best = atlas[name].classes(concept)
                serves = {cls for cls in range(len(CLASSES)) if int(digits, 16) >> (4 * len(digits) - 1 - cls) & 1}
                wanted = best.cls[(best.mean >= best.mean[0] / 2) & (best.mean[0] > 0)]
                assert serves == set(wanted.tolist())
                assert len(serves) == table["served"][concept]

    def test_histograms_are_class_means(self, site: Path, atlas: crp.ConceptAtlas) -> None:
        for page in pages_of(site, 1):
            best = atlas[ODD].classes(page["concept"])
            assert page["histogram"]["cls"] == best.cls.tolist()
            assert page["histogram"]["mean"] == pytest.approx(best.mean.tolist(), rel=1e-3)
            assert page["histogram"]["rest"] == 0

    def test_class_pages_have_the_concepts_that_serve_the_class(self, site: Path, atlas: crp.ConceptAtlas) -> None:
        classes = data_of(site, "classes-0")
        assert len(classes) == len(CLASSES)
        assert classes[4] == {"samples": [], "layers": [{"concepts": []}] * 2}  # no sample has this class
        for number, name in enumerate(LAYERS):
            shown = [entry[0] for entry in classes[2]["layers"][number]["concepts"]]
            assert shown == atlas[name].concepts(2, 12).concept.tolist()

    def test_class_pages_have_samples_of_the_class_that_have_pages(self, site: Path, atlas: crp.ConceptAtlas) -> None:
        shown = data_of(site, "report")["shown"]
        labels = dict(zip(atlas.samples.tolist(), atlas.targets.tolist(), strict=True))
        for cls, page in enumerate(data_of(site, "classes-0")[:4]):
            assert 1 <= len(page["samples"]) <= 6
            assert {labels[sample] for sample in page["samples"]} == {cls}
            assert set(page["samples"]) <= set(shown)

    def test_a_class_that_no_concept_shows_has_one_sample(self, atlas: crp.ConceptAtlas, tmp_path: Path) -> None:
        made = odd_report(atlas, tmp_path / "report", concept_ids={ODD: [0]}, references=1)
        counts = [len(page["samples"]) for page in data_of(made.path, "classes-0")]
        assert counts[4] == 0
        assert min(counts[:4]) == 1

    def test_class_pages_have_markers_and_mistakes_as_the_atlas_answers(
        self, site: Path, atlas: crp.ConceptAtlas
    ) -> None:
        marked = 0
        for cls in range(4):
            for number, name in enumerate(LAYERS):
                page = data_of(site, "classes-0")[cls]["layers"][number]
                frame = atlas[name].relevance.markers(cls, k=8).to_frame()
                frame = frame[frame["q"] < 0.05]
                assert [entry[0] for entry in page["markers"]] == frame["concept"].tolist()
                assert [entry[1] for entry in page["markers"]] == pytest.approx(frame["difference"].tolist(), rel=1e-3)
                marked += len(frame)
                right = int(((atlas.labels == cls) & (atlas.predictions == cls)).sum())
                wrong = int((atlas.labels == cls).sum()) - right
                told = page["mistakes"]
                assert (told is None) == (0 in (right, wrong))
                if told is not None:
                    assert (told["right"], told["wrong"]) == (right, wrong)
        assert marked

    def test_a_class_is_compared_with_others_as_the_atlas_answers(self, site: Path, atlas: crp.ConceptAtlas) -> None:
        for number, name in enumerate(LAYERS):
            compared = data_of(site, "classes-0")[1]["layers"][number]["compared"]
            assert {other for other, _ in compared} == {0, 2, 3}
            for other, rows in compared:
                table = atlas[name].relevance.contrast(1, other).taken(slice(12))
                assert [row[0] for row in rows] == table.concept.tolist()
                for place, column in enumerate(("mean_a", "mean_b", "q", "g"), start=1):
                    expected = getattr(table, column).tolist()
                    told = [np.nan if row[place] is None else row[place] for row in rows]
                    assert told == pytest.approx(expected, rel=1e-3, abs=1e-9, nan_ok=True)

    def test_samples_that_pages_show_have_pages_themselves(self, site: Path, atlas: crp.ConceptAtlas) -> None:
        about = data_of(site, "report")
        assert len(set(about["shown"])) == len(about["shown"]) > 3
        data = data_of(site, "samples-0")["samples"]
        assert [page["name"] for page in data] == data_of(site, "sample-names")
        named = {entry[4] for number in range(2) for page in pages_of(site, number)
                 for entries in page["references"].values() for entry in entries}  # fmt: skip
        assert named <= set(about["shown"])
        classes, probabilities = atlas.top_predictions
        for sample, page in zip(about["shown"], data, strict=True):
            row = int(atlas.places(np.array([sample]))[0])
            assert page["name"] == escaped(DATA.samples[sample][0])
            assert page["start"] == atlas.targets[row]
            assert [cls for cls, _ in page["predictions"]] == classes[row].tolist()
            assert [value for _, value in page["predictions"]] == pytest.approx(probabilities[row].tolist(), rel=1e-3)
            for number, name in enumerate(LAYERS):
                scores = np.abs(np.asarray(atlas[name].relevance.matrix[row : row + 1], "f8")[0])
                strongest = page["layers"][number]["concepts"]
                assert [concept for concept, _ in strongest] == np.argsort(-scores, kind="stable")[
                    : len(strongest)
                ].tolist()

    def test_every_cell_lies_on_a_picture_that_is_there(self, site: Path) -> None:
        about = data_of(site, "report")
        pitch = about["cell"]["size"] + 2 * about["cell"]["gutter"]
        for number in range(2):
            for path in sorted((site / "data").glob(f"layer-{number}-*.js")):
                chunk = data_of(site, path.stem)
                file, columns, rows = chunk["sheet"]
                with Image.open(site / "pictures" / file) as sheet:
                    assert sheet.size == (columns * pitch, rows * pitch)
                cells = {cell for page in chunk["concepts"] for entries in page["references"].values()
                         for entry in entries for cell in entry[3]}  # fmt: skip
                assert cells == set(range(len(cells)))
                assert columns * (rows - 1) < len(cells) <= columns * rows
            layer = data_of(site, f"layer-{number}")
            assert all((site / "pictures" / file).is_file() for file, _, _ in layer["sheets"])
            assert len(layer["covers"]) == len(layer["table"]["concept"])


def pages_of(site: Path, number: int) -> list[Any]:
    paths = (site / "data").glob(f"layer-{number}-*.js")
    pages = [page for path in paths for page in data_of(site, path.stem)["concepts"]]
    return sorted(pages, key=lambda page: int(page["concept"]))


class TestSamples:
    def test_heatmaps_are_the_same_however_many_concepts_share_a_forward(
        self, atlas: crp.ConceptAtlas, monkeypatch: Any
    ) -> None:
        def pictures(least: int, held: int) -> list[bytes]:
            monkeypatch.setattr(samples_module, "_SHARED", least)
            monkeypatch.setattr(samples_module, "_HELD", held)
            sheets = list(sample_source(atlas).sheets(ODD, range(9), per_sheet=2, between=lambda: None))
            assert [list(ids) for ids, _ in sheets] == [[0, 1], [2, 3], [4, 5], [6, 7], [8]]
            samples = [sample for _, shown in sheets for several in shown.values() for sample in several]
            return [np.asarray(sample.heatmap).astype(int) for sample in samples]

        alone = pictures(1 << 30, 0)
        for least, held in ((1, 1 << 30), (3, 1 << 30), (2, 20_000)):
            together = pictures(least, held)
            assert max(np.abs(a - b).max() for a, b in zip(alone, together, strict=True)) <= 1

    def test_heatmaps_and_receptive_fields_are_those_of_references(self, atlas: crp.ConceptAtlas) -> None:
        source = sample_source(atlas)
        found = source.of(ODD, range(4))
        for (concept, mode), several in found.items():
            asked = {"attribution": ATTRIBUTION, "composite": RULES, "mode": mode, "k": 3}
            one_by_one = references_of(atlas, DATA, ODD, concept, **asked)  # type: ignore[arg-type]
            fields = references_of(atlas, DATA, ODD, concept, receptive_field=True, **asked)  # type: ignore[arg-type]
            assert [one.sample for one in several] == one_by_one.table.sample.tolist()
            assert fields.boxes is not None
            for shown, image, heatmap, box in zip(
                several, one_by_one.images, one_by_one.heatmaps, fields.boxes, strict=True
            ):
                assert shown.box == box
                wanted = thumbnail(overlay(image, heatmap), 48)
                # Other batches round otherwise: a level of colour at most, after scaling.
                assert np.abs(np.asarray(shown.heatmap, "i4") - np.asarray(wanted, "i4")).max() <= 3
                top, left, bottom, right = box
                assert shown.crop is not None
                assert shown.crop == thumbnail(picture(image).crop((left, top, right, bottom)), 48)

    @pytest.mark.parametrize("style", ["map", "masked"])
    def test_are_drawn_in_the_style_that_is_asked_for(self, atlas: crp.ConceptAtlas, style: Style) -> None:
        look = Look(style, percentile=80, cmap="coldnhot")
        shown = sample_source(atlas, references=1, look=look).of(ODD, [2])[2, "relevance"][0]
        reference = references_of(atlas, DATA, ODD, 2, attribution=ATTRIBUTION, composite=RULES, k=1)
        image, heatmap = reference.images[0], reference.heatmaps[0]
        drawn = {
            "map": heatmap_image(heatmap, cmap="coldnhot", percentile=80),
            "masked": picture(masked_image(image, heatmap, percentile=80)),
        }[style]
        wanted = np.asarray(thumbnail(drawn, 48), "i4")
        assert np.abs(np.asarray(shown.heatmap, "i4") - wanted).max() <= 3

    def test_preprocessing_that_resizes_leaves_crops_out(self, tmp_path: Path) -> None:
        def smaller(images: torch.Tensor) -> torch.Tensor:
            return images[..., ::2, ::2]

        with odd_atlas(tmp_path / "atlas.h5", preprocess=smaller) as atlas:
            found = sample_source(atlas, preprocess=smaller).of(MARKUP, [0])
            odd_report(atlas, tmp_path / "report", preprocess=smaller, concept_ids=[0])
        assert all(one.crop is None for several in found.values() for one in several)
        entry = data_of(tmp_path / "report", "layer-0-0")["concepts"][0]["references"]["relevance"][0]
        assert entry[3][2] == -1

    @pytest.mark.parametrize("start", ["prediction", "layer"])
    def test_relevance_may_start_elsewhere(self, atlas: crp.ConceptAtlas, tmp_path: Path, start: str) -> None:
        odd_report(atlas, tmp_path / "report", conditioned_on=start, receptive_field=False, concept_ids={ODD: [1]})
        page = data_of(tmp_path / "report", "layer-0-0")["concepts"][0]
        assert all(entry[3][2] == -1 for entry in page["references"]["relevance"])

    def test_what_has_no_receptive_field_is_said(self, atlas: crp.ConceptAtlas, monkeypatch: Any) -> None:
        def refuse(*_: Any, **__: Any) -> list[int]:
            raise InputError("no neurons here")

        monkeypatch.setattr(samples_module, "neurons_at", refuse)
        source = sample_source(atlas)
        assert all(one.crop is None for several in source.of(ODD, [0]).values() for one in several)
        assert source.remarks == {ODD: "Some concepts are shown without receptive fields: no neurons here."}


class TestSimilarityAndLinks:
    def test_cosines_are_those_of_the_definition(self) -> None:
        left, right = np.random.default_rng(0).normal(size=(2, 50, 4)) + 1
        left[3, 1] = np.nan
        held = np.arange(50) != 3
        a, b = left[held], right[held]
        wanted = (a.T @ b) / np.outer(np.linalg.norm(a, axis=0), np.linalg.norm(b, axis=0))
        assert np.allclose(cosines(left, right, centred=False), wanted)
        assert np.allclose(cosines(left, right, centred=True), np.corrcoef(a.T, b.T)[:4, 4:])
        assert (cosines(np.zeros((5, 2)), np.ones((5, 2)), centred=True) == 0).all()

    def test_correlations_of_nearly_constant_columns_are_those_of_what_varies(self) -> None:
        varied = np.random.default_rng(0).normal(size=(5000, 3))
        varied[:, 1] += varied[:, 0]
        wanted = np.corrcoef(varied.T)
        for scale, tolerance in ((1e-7, 1e-7), (1e-12, 1e-2), (1e-25, None)):
            shifted = varied * scale + (0.0 if tolerance is None else 3.7)
            found = cosines(shifted, shifted, centred=True)
            assert np.allclose(found, wanted, atol=tolerance or 1e-12), (scale, found)

    def test_constant_columns_correlate_with_nothing(self) -> None:
        columns = np.full((9001, 2), [0.1, 1e9 / 3])
        assert (cosines(columns, columns, centred=True) == 0).all()
        assert (cosines(columns, np.arange(9001.0)[:, None], centred=True) == 0).all()

    @pytest.mark.slow
    def test_similarity_is_within_classes_with_and_without_a_matrix(self, tmp_path: Path) -> None:
        for matrix in (True, False):
            with odd_atlas(tmp_path / f"{matrix}.h5", matrix=matrix) as atlas:
                facts = layer_facts(atlas, ODD, [0, 2, 5])
                wanted = np.nan_to_num(atlas[ODD].relevance.similarity().values)[np.ix_([0, 2, 5], [0, 2, 5])]
                assert np.allclose(facts.similarity, wanted, atol=1e-6)
                assert all(concept != 2 for concept, _ in facts.similar(2))
                made = odd_report(atlas, tmp_path / f"report-{matrix}", references=1)
            about = data_of(made.path, "report")
            assert about["similar"] == "Correlation of relevance over samples, within classes"
            assert about["linked"] == matrix
            if not matrix:
                assert about["links"].startswith("None in this report: it has one layer only, or its atlas was built")

    def test_places_in_the_plane_have_the_distances_of_similarities_of_rank_two(self, atlas: crp.ConceptAtlas) -> None:
        angles = np.array([0.0, 0.5, 1.5, 4.0])
        points = np.stack([np.cos(angles), np.sin(angles)], 1)
        facts = replace(layer_facts(atlas, ODD, range(4)), similarity=points @ points.T)
        places = np.array(facts.table()["places"])
        wanted = np.linalg.norm(points[:, None] - points[None], axis=2)
        assert np.allclose(np.linalg.norm(places[:, None] - places[None], axis=2), wanted, atol=2e-3)

    def test_a_class_of_one_sample_is_a_main_class_only_where_no_other_is(self, atlas: crp.ConceptAtlas) -> None:
        facts = layer_facts(atlas, ODD, [0])
        profile, deviation = np.array([[0.9], [0.5], [0.6]]), np.array([[0.0], [0.01], [0.5]])
        several = replace(facts, profile=profile, deviation=deviation, counts=np.array([1, 20, 20]))
        assert several.table()["cls"] == [1]
        assert replace(several, counts=np.array([1, 1, 1])).table()["cls"] == [0]

    def test_links_are_the_strongest_correlations_both_ways(self, atlas: crp.ConceptAtlas) -> None:
        links = co_relevance(atlas, {MARKUP: range(6), ODD: range(9)}, k=2)
        assert links is not None
        with np.errstate(invalid="ignore"):  # a concept that never has relevance
            both = np.corrcoef(atlas[MARKUP].relevance.matrix[:].T, atlas[ODD].relevance.matrix[:].T)[:6, 6:]
        both = np.nan_to_num(both)
        up, down = links.of(MARKUP, 1)
        wanted = [int(one) for one in np.argsort(-both[1])[:2] if both[1, one] >= 0.1]
        assert [one.concept for one in up] == wanted
        assert [one.weight for one in up] == pytest.approx([both[1, one] for one in wanted], abs=1e-5)
        assert all(one.layer == ODD for one in up)
        assert not down
        assert co_relevance(atlas, {ODD: range(9)}) is None

    def test_links_from_concept_graphs_are_edges_of_mean_graphs_both_ways(
        self, atlas: crp.ConceptAtlas, tmp_path: Path
    ) -> None:
        made = odd_report(atlas, tmp_path / "report", links="graph", references=1)
        shares = np.zeros((9, 6))
        for concept in range(9):
            cls = int(atlas[ODD].classes(concept, 1).cls[0])
            top = atlas[ODD].relevance.class_top(concept, cls, 2)
            images = [DATA[one][0] for one in top.sample[top.score > 0]]
            if images:
                start = {ODD: [concept], "y": [cls]}
                graph = concept_graph_of(ATTRIBUTION, torch.stack(images), RULES, start=start, layers=MARKUP, width=6)
                for edge in graph.edges:
                    shares[concept, edge.target[1]] = edge.share
        assert (shares > 0).sum() > 20
        for page in pages_of(made.path, 0):
            self.strongest(page["up"], [1, ODD], shares[:, page["concept"]])
            assert page["down"] == []
        for page in pages_of(made.path, 1):
            self.strongest(page["down"], [0, MARKUP], shares[page["concept"]])
            assert page["up"] == []
        about = data_of(made.path, "report")
        assert about["linked"]
        assert about["linkShares"]
        assert "2 at most" in about["links"]

    @staticmethod
    def strongest(links: list[Any], layer: list[Any], shares: Any) -> None:
        """Links of one concept are the strongest positive shares, best first."""
        wanted = [int(one) for one in np.argsort(-shares, kind="stable")[:6] if shares[one] > 0]
        assert [one[:3] for one in links] == [[*layer, one] for one in wanted]
        assert [one[3] for one in links] == pytest.approx([shares[one] for one in wanted], rel=1e-3)

    def test_links_from_concept_graphs_need_a_layer_that_feeds_another(
        self, atlas: crp.ConceptAtlas, tmp_path: Path
    ) -> None:
        made = odd_report(atlas, tmp_path / "report", links="graph", layers=ODD, references=1)
        about = data_of(made.path, "report")
        assert not about["linked"]
        assert about["links"] == "None in this report: no layer of it feeds another one."

    def test_concepts_without_relevance_have_no_links_down(self, atlas: crp.ConceptAtlas, tmp_path: Path) -> None:
        made = odd_report(atlas, tmp_path / "report", links="graph", references=1)
        dead = [one for one in range(9) if not (atlas[ODD].relevance.top(one).score > 0).any()]
        assert dead
        assert all(page["down"] == [] for page in pages_of(made.path, 1) if page["concept"] in dead)

    def test_links_may_come_from_elsewhere(self, atlas: crp.ConceptAtlas, tmp_path: Path) -> None:
        links = Links("From elsewhere.", lambda layer, concept: ([Link(ODD, 2, -0.5), Link("fc", 1, 0.25)], []))
        odd_report(atlas, tmp_path / "report", links=links, references=1)
        page = data_of(tmp_path / "report", "layer-0-0")["concepts"][0]
        assert page["up"] == [[1, ODD, 2, -0.5], [-1, "fc", 1, 0.25]]
        assert data_of(tmp_path / "report", "report")["links"] == "From elsewhere."


class TestConceptGraphs:
    def test_of_classes_are_means_over_samples_that_have_pages(self, site: Path, atlas: crp.ConceptAtlas) -> None:
        about = data_of(site, "report")
        assert about["graphs"] == [0, 1, 2, 3]  # class 4 has no samples
        labels = dict(zip(atlas.samples.tolist(), atlas.targets.tolist(), strict=True))
        for cls in about["graphs"]:
            page = data_of(site, f"graph-{cls}")
            assert {labels[sample] for sample in page["samples"]} == {cls}
            assert len(page["samples"]) == 4
            assert set(page["samples"]) <= set(about["shown"])
            images = torch.stack([DATA[sample][0] for sample in page["samples"]])
            graph = concept_graph_of(ATTRIBUTION, images, RULES, start={"y": [cls]}, layers=list(LAYERS), width=(4, 2))
            shares = {(edge.source, edge.target): edge.share for edge in graph.edges}
            keys = [(page["columns"][box[0]], box[2]) for box in page["boxes"]]
            named = [(LAYERS[number] if number >= 0 else "y", concept) for number, concept in keys]
            assert named[0] == ("y", cls)
            for source, target, share, positive, _ in page["edges"]:
                key = named[source], named[target]
                assert share == pytest.approx(shares[key], rel=1e-3)
                assert positive == (next(e.relevance for e in graph.edges if (e.source, e.target) == key) > 0)

    def test_have_shares_that_sum_to_one_with_what_others_get_and_biases_absorb(self, site: Path) -> None:
        for cls in range(4):
            page = data_of(site, f"graph-{cls}")
            decomposed = [index for index, box in enumerate(page["boxes"]) if box[5] is not None]
            assert len(decomposed) >= 2
            for index in decomposed:
                passed = sum(edge[2] for edge in page["edges"] if edge[0] == index)
                assert passed + sum(page["boxes"][index][4:]) == pytest.approx(1, abs=3e-3)

    def test_have_boxes_that_do_not_overlap_and_lie_inside(self, site: Path) -> None:
        for cls in range(4):
            page = data_of(site, f"graph-{cls}")
            for column in range(len(page["columns"])):
                middles = sorted(box[1] for box in page["boxes"] if box[0] == column)
                assert np.diff(middles).min(initial=1) >= 1 - 1e-9
                assert middles[0] >= 0.5 - 1e-9
                assert middles[-1] <= page["height"] - 0.5 + 1e-9

    @pytest.mark.parametrize("graphs", [0, 1])
    def test_are_as_many_as_asked_for(self, atlas: crp.ConceptAtlas, tmp_path: Path, graphs: int) -> None:
        made = odd_report(atlas, tmp_path / "report", concept_ids=[0], references=1, graphs=graphs)
        assert data_of(made.path, "report")["graphs"] == [0][:graphs]
        assert len(list((made.path / "data").glob("graph-*.js"))) == graphs
        assert ('id="graphs"' in made.index.read_text(encoding="utf-8")) == bool(graphs)

    def test_have_four_layers_at_most_from_the_lowest_to_the_highest(self) -> None:
        assert graph_page._layers(list("abcdefgh")) == ["a", "c", "f", "h"]
        assert graph_page._layers(list("ab")) == ["a", "b"]
        assert graph_page._layers(["a"]) == ["a"]


@pytest.fixture
def outside_pages(tmp_path: Path) -> Iterator[None]:
    """Two pages that are not the package's own: an article with a link, and a script with data."""
    article, script = tmp_path / "counts.html", tmp_path / "names.js"
    article.write_text('<article id="counts"><h1>Counts</h1><p>{{ name }}: {{ count }}</p></article>')
    script.write_text("// a script")

    def counts(report: ReportContext) -> list[tuple[str, Any]]:
        return [("name", MARKUP), ("count", len(report.chosen))]

    register_page(Page("counts", counts, article, title="Counts"))
    register_page(Page("names", lambda report: [("names", list(report.chosen))], script))
    yield
    unregister_page("counts")
    unregister_page("names")


class TestPagesFromOutside:
    @pytest.mark.usefixtures("outside_pages")
    def test_are_an_article_or_a_script_with_data(self, atlas: crp.ConceptAtlas, tmp_path: Path) -> None:
        site = odd_report(atlas, tmp_path / "report", concept_ids=[0], references=1).path
        index = (site / "index.html").read_text(encoding="utf-8")
        assert "<p>&lt;img src=x onerror=alert(1)&gt;: 2</p></article>" in index
        assert '<a href="#counts" data-page="counts">Counts</a>' in index
        assert '<script src="pages/names.js" defer></script>' in index
        assert (site / "pages" / "names.js").read_text() == "// a script"
        assert data_of(site, "names") == list(LAYERS)

    def test_are_only_in_reports_made_while_registered(self, site: Path) -> None:
        assert sorted(path.name for path in (site / "pages").iterdir()) == [
            "class.js",
            "concept.js",
            "concepts.js",
            "graph.js",
            "layer.js",
            "sample.js",
        ]
        with pytest.raises(
            InputError,
            match="the report has no page 'counts'; it has concept, layer, concepts, class, graph, sample, overview",
        ):
            unregister_page("counts")

    @pytest.mark.parametrize(
        ("name", "template", "message"),
        [
            ("No name", "page.html", "lower-case letters, digits and hyphens; got 'No name'"),
            ("class", "page.html", "has a page 'class' already"),
            ("mine", "page.txt", r"is an \.html or a \.js file; got 'page\.txt'"),
        ],
    )
    def test_that_cannot_be_pages_are_refused(self, name: str, template: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            register_page(Page(name, lambda report: [], Path(template)))


def test_a_histogram_of_many_classes_shows_the_strongest_and_bounds_the_rest(atlas: crp.ConceptAtlas) -> None:
    facts = layer_facts(atlas, ODD, [0])
    object.__setattr__(facts, "profile", np.linspace(-1, 2, 100)[:, None])
    object.__setattr__(facts, "deviation", np.zeros((100, 1)))
    object.__setattr__(facts, "counts", np.ones(100, "i8"))
    shown = facts.histogram(0)
    assert shown["cls"] == list(range(99, 83, -1))
    assert shown["rest"] == 84
    assert shown["below"] == pytest.approx(np.linspace(-1, 2, 100)[83], rel=1e-3)


def test_a_sheet_keeps_each_picture_once_and_repeats_borders(tmp_path: Path) -> None:
    sheet = SpriteSheet(8)
    red, wide = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 4), "blue")
    assert [sheet.cell("a", red), sheet.cell("b", wide), sheet.cell("a", wide)] == [0, 1, 0]
    assert sheet.geometry == (2, 1)
    sheet.save(tmp_path / "sheet.webp")
    with Image.open(tmp_path / "sheet.webp") as made:
        assert made.size == (24, 12)
        assert made.getpixel((0, 0))[3] == 255  # type: ignore[index]
        assert made.getpixel((18, 0))[3] == 0  # type: ignore[index]


class TestBuilding:
    def test_two_builds_differ_in_one_line(self, site: Path, atlas: crp.ConceptAtlas, tmp_path: Path) -> None:
        again = odd_report(atlas, tmp_path / "again").path
        files = sorted(one.relative_to(site) for one in site.rglob("*"))
        assert files == sorted(one.relative_to(again) for one in again.rglob("*"))
        for file in files:
            if (site / file).is_dir() or file.name == "index.html":
                continue
            assert (site / file).read_bytes() == (again / file).read_bytes(), file
        lines = zip(
            *((one / "index.html").read_text(encoding="utf-8").splitlines() for one in (site, again)), strict=True
        )
        assert all('id="built"' in a for a, b in lines if a != b)

    def test_only_what_was_chosen_is_in_it(self, atlas: crp.ConceptAtlas, tmp_path: Path) -> None:
        made = odd_report(atlas, tmp_path / "report", layers=ODD, concept_ids=[7, 2, 7], references=99)
        about = data_of(made.path, "report")
        assert made.concepts == 2
        assert [(one["name"], one["ids"]) for one in about["layers"]] == [(ODD, [2, 7])]
        assert len(data_of(made.path, "layer-0-0")["concepts"][0]["references"]["relevance"]) == 6
        assert made.size == sum(one.stat().st_size for one in made.path.rglob("*") if one.is_file())
        assert str(made).startswith(f"{made.index}: 2 concepts in ")

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"layers": []}, InputError, "no layers: name one at least"),
            ({"layers": "conv9"}, UnknownLayerError, "has no layer 'conv9'"),
            ({"layers": "conv.*9"}, UnknownLayerError, "has no layer"),
            ({"layers": ODD, "concept_ids": {MARKUP: [1]}}, UnknownLayerError, "which is no layer of the report"),
            ({"concept_ids": []}, InputError, "no concepts of"),
            ({"concept_ids": [1, 6]}, ConceptRangeError, "concept 6 of"),
            ({"concept_ids": [-1]}, ConceptRangeError, "concept -1 of"),
            ({"concept_ids": [1.5]}, InputError, "a concept is a whole number; got 1.5"),
            ({"references": 0}, InputError, "references is a whole number from 1"),
            ({"picture_size": 9999}, InputError, "picture_size is a whole number from 16 to 512"),
            ({"batch_size": True}, InputError, "batch_size is a whole number"),
            ({"graphs": -1}, InputError, "graphs is a whole number from 0"),
            ({"links": "hyper"}, InputError, "links is 'correlation', 'graph' or Links; got 'hyper'"),
            ({"conditioned_on": "nothing"}, InputError, "conditioned_on is 'class', 'prediction' or 'layer'"),
            ({"attribution": crp.CondAttribution(odd_model(1))}, AtlasError, "a model with other weights"),
            ({"dataset": Noise(seed=1)}, AtlasError, "another dataset"),
        ],
    )
    def test_mistakes_are_told_before_anything_is_written(
        self, atlas: crp.ConceptAtlas, tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=re.escape(message)):
            odd_report(atlas, tmp_path / "report", **options)
        assert not list(tmp_path.iterdir())


class TestTheFolder:
    def test_an_earlier_report_is_replaced_only_when_asked(self, atlas: crp.ConceptAtlas, tmp_path: Path) -> None:
        made = odd_report(atlas, tmp_path / "report", concept_ids=[0], references=1)
        before = made.index.read_bytes()
        with pytest.raises(InputError, match="exists; overwrite replaces it"):
            odd_report(atlas, made.path)
        assert made.index.read_bytes() == before
        again = odd_report(atlas, made.path, concept_ids=[0, 1], references=1, overwrite=True)
        assert again.concepts == 4
        assert list(tmp_path.iterdir()) == [made.path]

    def test_nothing_else_is_ever_replaced(self, atlas: crp.ConceptAtlas, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "notes.txt").write_text("precious")
        (tmp_path / "file").write_text("precious")
        with pytest.raises(InputError, match="is no report of crp-kit and is not replaced"):
            odd_report(atlas, tmp_path / "mine", overwrite=True)
        with pytest.raises(InputError, match="a report is a folder, and this is a file"):
            odd_report(atlas, tmp_path / "file", overwrite=True)
        with pytest.raises(InputError, match="there is no folder"):
            odd_report(atlas, tmp_path / "none" / "report")
        made = odd_report(atlas, tmp_path / "report", concept_ids=[0], references=1)
        (made.path / "notes.txt").write_text("precious")
        with pytest.raises(InputError, match=r"holds files that are not of a report \(notes.txt\)"):
            odd_report(atlas, made.path, overwrite=True)
        assert (made.path / "notes.txt").read_text() == "precious"

    def test_an_empty_folder_is_used(self, atlas: crp.ConceptAtlas, tmp_path: Path) -> None:
        (tmp_path / "report").mkdir()
        assert odd_report(atlas, tmp_path / "report", concept_ids=[0], references=1).index.is_file()

    @pytest.mark.parametrize(
        ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit), (None, InputError)]
    )
    def test_an_end_on_the_way_leaves_what_was_there(
        self, atlas: crp.ConceptAtlas, tmp_path: Path, monkeypatch: Any, number: int | None, raised: type[BaseException]
    ) -> None:
        made = odd_report(atlas, tmp_path / "report", concept_ids=[0], references=1)
        before = made.index.read_bytes()
        usual = SampleSource.sheets

        def ended(self: SampleSource, layer: str, ids: Any, **options: Any) -> Any:
            if number is None:
                raise InputError("sample 3 cannot be read")
            os.kill(os.getpid(), number)
            return usual(self, layer, ids, **options)

        monkeypatch.setattr(SampleSource, "sheets", ended)
        for path in (made.path, tmp_path / "new"):
            with pytest.raises(raised):
                odd_report(atlas, path, references=1, overwrite=True)
        assert list(tmp_path.iterdir()) == [made.path]
        assert made.index.read_bytes() == before


NAMED = ("--model", "demo:resnet", "--data", "demo:shapes:24")


@pytest.fixture(scope="module")
def demo_atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "atlas.h5"
    made = invoke("atlas", "build", *NAMED, "--layers", "layer[23].1.conv2", "--workers", 0, "-o", path)
    assert made.exit_code == 0, made.output
    return path


class TestTheCommand:
    @pytest.mark.slow
    def test_makes_a_site_and_says_where_and_how_large(self, demo_atlas: Path, tmp_path: Path) -> None:
        asked = ("--concepts", "layer2.1.conv2:3,5", "--concepts", "layer3.1.conv2:0-1", "--references", 2)
        made = invoke("report", demo_atlas, *NAMED, *asked, "-o", tmp_path / "report")
        assert made.exit_code == 0, (made.output, made.exception)
        assert made.stdout == f"{tmp_path / 'report' / 'index.html'}\n"
        assert re.search(r"4 concepts, \d+ files, \d+\.\d MB, \d+ seconds", made.stderr)
        about = data_of(tmp_path / "report", "report")
        assert [one["ids"] for one in about["layers"]] == [[3, 5], [0, 1]]
        assert about["title"] == "demo:resnet on demo:shapes:24"

    @pytest.mark.slow
    def test_links_come_from_concept_graphs_where_asked(self, demo_atlas: Path, tmp_path: Path) -> None:
        asked = ("--concepts", "0-3", "--references", 1, "--links", "graph")
        made = invoke("report", demo_atlas, *NAMED, *asked, "-o", tmp_path / "report")
        assert made.exit_code == 0, (made.output, made.exception)
        assert data_of(tmp_path / "report", "report")["links"].startswith("From concept graphs: ")
        assert any(page["down"] for page in pages_of(tmp_path / "report", 1))

    @pytest.mark.parametrize(
        ("asked", "message"),
        [
            (("--layers", "layer9"), "has no layer 'layer9'"),
            (("--concepts", "99"), "concept 99 of 'layer2.1.conv2' is out of range"),
            (("--concepts", "layer2.1.conv2:1", "--concepts", "2"), "choose one form"),
            (("--concepts", "one"), "numbers are written like 0-9,20"),
            (("--data", "demo:shapes:25"), "was made from another dataset"),
        ],
    )
    def test_mistakes_are_one_line(self, demo_atlas: Path, tmp_path: Path, asked: Any, message: str) -> None:
        result = invoke("report", demo_atlas, *NAMED, *asked, "-o", tmp_path / "report")
        assert result.exit_code == 2
        assert message in result.stderr
        assert result.stderr.count("\n") == 1
        assert not (tmp_path / "report").exists()

    def test_an_existing_folder_is_told_with_the_option(self, demo_atlas: Path, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("mine")
        result = invoke("report", demo_atlas, *NAMED, "-o", tmp_path)
        assert "exists; --overwrite replaces it" in result.stderr
