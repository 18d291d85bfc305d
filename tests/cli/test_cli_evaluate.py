"""``crp-kit evaluate``: tables on stdout, figures, and what is refused."""

import json
from pathlib import Path

import pytest
from command_line import invoke, refused

MODEL = ("--model", "demo:resnet", "--data", "demo:shapes:8")
LAYER = "layer3.1.conv2"
QUICK = ("--steps", 3, "--repeats", 2)


def test_areas_of_one_layer_are_printed_by_order() -> None:
    result = invoke("evaluate", "flipping", *MODEL, "--layer", LAYER, *QUICK, "--json")
    rows = json.loads(result.stdout)
    assert [row["order"] for row in rows] == ["relevance", "activation", "random"]
    assert rows[0]["aoc"] > rows[2]["aoc"]
    assert rows[2]["better"] is None


@pytest.mark.slow
def test_several_layers_and_rules_are_beside_each_other_in_table_and_figure(tmp_path: Path) -> None:
    layers = ("--layer", LAYER, "--layer", "layer3.0.conv2", "--beside", "gradient")
    result = invoke(
        "evaluate", "insertion", *MODEL, *layers, *QUICK, "--orders", "relevance", "--csv", "-o", tmp_path / "a.png"
    )
    lines = result.stdout.splitlines()
    assert lines[0].startswith("layer,composite,order,aoc")
    assert [line.split(",")[:2] for line in lines[1:]] == [
        [layer, rules] for layer in (LAYER, "layer3.0.conv2") for rules in ("epsilon_plus_flat", "gradient")
    ]
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_impact_is_printed_as_correlations_or_by_concept(tmp_path: Path) -> None:
    result = invoke("evaluate", "impact", *MODEL, "--layer", LAYER, "--json", "-o", tmp_path / "impact.png")
    rows = json.loads(result.stdout)
    assert [row["score"] for row in rows] == ["relevance"] * 2 + ["activation"] * 2
    assert rows[1]["mean"] > rows[3]["mean"]
    assert (tmp_path / "impact.png").exists()
    lines = invoke("evaluate", "impact", *MODEL, "--layer", LAYER, "--concept", "3,5", "--concepts", "--csv").stdout
    assert lines.splitlines()[0] == "concept,impact,low,high,relevance,activation"
    assert lines.count("\n") == 3


def test_impact_is_of_the_concepts_that_are_asked_for() -> None:
    heads = (
        "evaluate",
        "impact",
        *MODEL,
        "--layer",
        LAYER,
        "--limit",
        2,
        "--concept",
        "heads:4",
        "--concepts",
        "--csv",
    )
    assert invoke(*heads).stdout.count("\n") == 5
    assert invoke(*heads, "--concept", "3").stdout.splitlines()[1].startswith("3,")
    assert "0 to 3" in refused(*heads, "--concept", "5")


def test_localisation_is_printed_by_score_beside_chance() -> None:
    result = invoke("evaluate", "localisation", *MODEL, "--parts", "circle,triangle,square,cross", "--json")
    rows = json.loads(result.stdout)
    assert [row["score"] for row in rows] == ["mass", "rank", "pointing", "iou"]
    assert rows[0]["mean"] > rows[0]["mask_share"]
    assert "no part 'wheel'" in refused("evaluate", "localisation", *MODEL, "--parts", "wheel")


def test_randomisation_and_sensitivity_are_printed_by_stage_and_level() -> None:
    result = invoke("evaluate", "randomisation", *MODEL, "--layer", LAYER, "--stages", 2, "--json")
    rows = json.loads(result.stdout)
    assert [row["modules"] for row in rows] == [0, 16, 31]
    result = invoke("evaluate", "sensitivity", *MODEL, "--layer", LAYER, "--noise", 0.1, "--repeats", 1, "--json")
    assert [row["noise"] for row in json.loads(result.stdout)] == [0.1]


@pytest.mark.slow
def test_composites_are_printed_with_all_measures(tmp_path: Path) -> None:
    names = ("--composites", "epsilon_plus_flat,gradient", "--layer", LAYER)
    result = invoke(
        "evaluate", "composites", *MODEL, *names, *QUICK, "--stages", 1, "--json", "-o", tmp_path / "rules.png"
    )
    rows = json.loads(result.stdout)
    assert {row["composite"] for row in rows} == {"epsilon_plus_flat", "gradient"}
    assert {"aoc", "mass", "randomised", "reached", "unexplained", "seconds"} <= set(rows[0])
    assert (tmp_path / "rules.png").exists()
    assert "--composites names one twice" in refused(
        "evaluate", "composites", *MODEL, "--layer", LAYER, "--composites", "a,a"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--layer", LAYER, "--layer", LAYER), f"--layer names '{LAYER}' twice"),
        (("--layer", LAYER, "--beside", "epsilon_plus_flat"), "--beside names 'epsilon_plus_flat' twice"),
        (("--layer", LAYER, "--orders", "relevance,relevance"), "--orders names an order twice"),
        (("--layer", LAYER, "--orders", "size"), "an order is 'relevance'"),
        (("--layer", "layer9"), "no layer named 'layer9'"),
    ],
)
def test_a_wrong_question_is_a_sentence(options: tuple[str, ...], message: str) -> None:
    assert message in refused("evaluate", "flipping", *MODEL, *options)
