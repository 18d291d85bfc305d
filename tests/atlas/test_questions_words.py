"""Names of concepts by words: embeddings of images and words are the user's, names are kept, wrong ones are refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import crp_kit as crp
from crp_kit.atlas.file.names import names_path, write_names
from crp_kit.atlas.query.reference_maps import check_origin
from crp_kit.atlas.questions.naming import NO_NAME
from crp_kit.data import ShapesDataset, demo_preprocess, demo_resnet
from crp_kit.errors import AtlasError, InputError, UnknownLayerError

LAYER = "layer2.1.conv2"
WORDS = {"red": [1.0, 0, 0], "green": [0, 1.0, 0], "blue": [0, 0, 1.0]}


def colours(images: list[torch.Tensor]) -> Any:
    """The mean colour of each image, beyond what all have."""
    return torch.stack([image.mean((1, 2)) - 0.4 for image in images])


class Kept(list[tuple[torch.Tensor, int]]):
    """Samples in memory, that count how often each is read."""

    def __init__(self, samples: Any) -> None:
        super().__init__(samples[number] for number in range(len(samples)))
        self.reads = 0

    def __getitem__(self, number: Any) -> Any:
        self.reads += 1
        return super().__getitem__(number)


@pytest.fixture(scope="module")
def data() -> Kept:
    return Kept(ShapesDataset(96, split="test"))


@pytest.fixture(scope="module")
def study(data: Kept) -> crp.Study:
    return crp.Study(demo_resnet(), data, preprocess=demo_preprocess)


@pytest.fixture(scope="module")
def opened(study: crp.Study, tmp_path_factory: pytest.TempPathFactory) -> Iterator[crp.ConceptAtlas]:
    path = tmp_path_factory.mktemp("words") / "a.h5"
    with study.build_atlas(path, layers=LAYER, verbose=False) as atlas:
        yield atlas


@pytest.fixture
def atlas(opened: crp.ConceptAtlas) -> Iterator[crp.ConceptAtlas]:
    yield opened
    names_path(opened).unlink(missing_ok=True)


def test_on_the_demo_colours_name_the_concepts_whose_references_have_them(
    study: crp.Study, data: Kept, atlas: crp.ConceptAtlas
) -> None:
    table = study.name_concepts(atlas, LAYER, colours, WORDS, mode="activation", k=12)
    assert sorted(table.concept) == list(range(32))
    assert len(table.names) > 8
    assert set(table.names.values()) <= set(WORDS)
    gain = table.similarity - table.expected
    assert (np.diff(gain[: len(table.names)]) <= 0).all()
    assert (table.name[len(table.names) :] == NO_NAME).all()
    assert set(table.n) == {12}
    assert table.caption == f"names of {LAYER!r} among 3 words, by embeddings of references by activation"
    row, tops = 0, atlas[LAYER].activation
    shown = colours([data[number][0] for number in tops.top(int(table.concept[row]), 12).sample.tolist()])
    word = torch.tensor(WORDS[str(table.name[row])])
    assert table.similarity[row] == pytest.approx(float(torch.cosine_similarity(shown, word[None], 1).mean()), abs=1e-6)
    assert table.references(row, 3).sample.tolist() == tops.top(int(table.concept[row]), 3).sample.tolist()


def test_vectors_may_be_a_mapping_an_array_tensors_or_a_function_of_words(
    study: crp.Study, atlas: crp.ConceptAtlas
) -> None:
    given: list[tuple[Any, Any]] = [
        (list(WORDS), np.array(list(WORDS.values()))),
        (tuple(WORDS), torch.tensor(list(WORDS.values()), requires_grad=True)),
        (list(WORDS), lambda words: torch.tensor([WORDS[word] for word in words], dtype=torch.bfloat16)),
        ({word: torch.tensor(vector) for word, vector in WORDS.items()}, None),
        (np.array(list(WORDS)), list(WORDS.values())),
    ]
    expected = study.name_concepts(atlas, LAYER, colours, WORDS, k=5).to_frame()
    for words, vectors in given:
        assert study.name_concepts(atlas, LAYER, colours, words, vectors=vectors, k=5).to_frame().equals(expected)


def test_names_by_words_are_kept_beside_the_atlas_and_shown(study: crp.Study, atlas: crp.ConceptAtlas) -> None:
    table = study.name_concepts(atlas, LAYER, colours, WORDS, k=12)
    path = table.save()
    assert path == names_path(atlas)
    assert atlas[LAYER].names == table.names
    concept = int(table.concept[0])
    assert study.references(atlas, LAYER, concept, k=1).concept_name == table.name[0]
    assert str(table.name[0]) in repr(atlas[LAYER].relevance.contrast(0, 1))
    with pytest.raises(AtlasError, match="overwrite=True"):
        table.save()
    assert table.taken(slice(0, 1)).save(overwrite=True) == path
    assert atlas[LAYER].names == {concept: table.name[0]}


def test_names_that_are_kept_are_not_those_of_the_table(study: crp.Study, atlas: crp.ConceptAtlas) -> None:
    write_names(atlas, LAYER, {0: "kept"})
    assert "kept" not in repr(study.name_concepts(atlas, LAYER, colours, WORDS, k=5))


def test_each_image_is_read_once_and_few_are_embedded_at_once(
    study: crp.Study, data: Kept, atlas: crp.ConceptAtlas
) -> None:
    sizes: list[int] = []
    check_origin(atlas, study.subject)
    before = data.reads
    check_origin(atlas, study.subject)
    known = data.reads - before

    def embed(images: list[torch.Tensor]) -> Any:
        sizes.append(len(images))
        assert not torch.is_grad_enabled()
        return colours(images)

    before = data.reads
    study.name_concepts(atlas, LAYER, embed, WORDS)
    assert max(sizes) == 64 < sum(sizes) <= 96
    assert data.reads - before == sum(sizes) + known
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embed": lambda images: np.ones(len(images))}, r"embeddings of 64 images are \(64, feature\); got shape"),
        ({"embed": lambda images: np.ones((len(images) + 1, 3))}, r"\(64, feature\); got shape \(65, 3\)"),
        ({"embed": lambda images: np.ones((len(images), 0))}, r"\(64, feature\); got shape \(64, 0\)"),
        (
            {"embed": lambda images: np.full((len(images), 3), np.nan)},
            "the embedding of sample 0 has values that are NaN",
        ),
        ({"embed": lambda images: np.zeros((len(images), 3))}, "embedded samples is zero"),
        ({"embed": lambda images: np.ones((len(images), len(images)))}, "returns 64 features, then"),
        ({"embed": lambda images: 1 / 0}, "the embedding function fails: ZeroDivisionError"),
        ({"embed": None}, "the embedding function fails: TypeError"),
        ({"embed": lambda images: np.ones((len(images), 5))}, "they have 5 and 3 features"),
        ({"words": {"red": [1, 0, 0]}}, "at least two words; got 1"),
        ({"words": []}, "at least two words; got 0"),
        ({"words": "red"}, "a mapping from words to vectors, or a list of words; got str"),
        ({"words": ["red", "blue", "red"]}, "'red' is there more than once"),
        ({"words": ["red", " "]}, "texts that are not empty; got ' '"),
        ({"words": ["red", 3]}, "texts that are not empty; got 3"),
        ({"words": ["red", "blue"]}, "a list of words whose vectors are in vectors="),
        ({"vectors": np.eye(3)}, "words is a mapping from words to vectors, or"),
        (
            {"words": ["red", "blue"], "vectors": np.eye(3)},
            r"embeddings of 2 words are \(2, feature\); got shape \(3, 3",
        ),
        ({"words": {"red": [1, 0], "blue": [1]}}, "the vectors of words fails: ValueError"),
        ({"words": {"red": [1, 0, 0], "blue": [0, 0, 0]}}, "the embedding of 'blue' is zero, NaN or infinite"),
        ({"words": ["a", "b"], "vectors": lambda words: None}, r"got shape \(\)"),
        ({"words": ["a", "b"], "vectors": lambda words: 1 / 0}, "embedding function of words fails: ZeroDivisionError"),
        ({"mode": "other"}, "mode is 'relevance' or 'activation'"),
        ({"k": 0}, "k is a whole number of at least 1"),
        ({"seed": -1}, "seed"),
    ],
)
def test_embeddings_and_words_that_name_nothing_are_refused_in_a_sentence(
    study: crp.Study, atlas: crp.ConceptAtlas, changes: dict[str, Any], message: str
) -> None:
    arguments = {"embed": colours, "words": WORDS, **changes}
    with pytest.raises(InputError, match=message) as caught:
        study.name_concepts(atlas, LAYER, **arguments)
    assert "\n" not in str(caught.value)


def test_another_model_layer_or_atlas_is_refused(study: crp.Study, atlas: crp.ConceptAtlas) -> None:
    with pytest.raises(UnknownLayerError):
        study.name_concepts(atlas, "layer9", colours, WORDS)
    with pytest.raises(InputError, match="not the name of its file"):
        study.name_concepts("atlas.h5", LAYER, colours, WORDS)  # type: ignore[arg-type]
    other = crp.Study(demo_resnet(), ShapesDataset(96), preprocess=demo_preprocess)
    with pytest.raises(AtlasError, match="dataset"):
        other.name_concepts(atlas, LAYER, colours, WORDS)
