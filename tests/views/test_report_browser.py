"""The report in a real browser, from disk: it loads, obeys its policy, can be searched, sorted and used by keyboard."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

import numpy as np
import pytest
from report_case import CLASSES, LAYERS, MARKUP, ODD, odd_report

import crp_kit as crp
from crp_kit.atlas.file.names import write_names
from crp_kit.escapes import escaped
from crp_kit.views.report import Page as ReportPage
from crp_kit.views.report import register_page, unregister_page
from crp_kit.views.report.facts import LayerFacts

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FOUND = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(FOUND is None, reason=f"no browser to look with: none of {', '.join(BROWSERS)} is on the PATH"),
]
CONCEPT = 5
NARROW, WIDE = {"width": 320, "height": 700}, {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def site(odd_atlas_file: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    # Blanks and a hash in the path: an address has to survive both.
    folder = tmp_path_factory.mktemp("browser") / "a report #1"
    folder.mkdir()
    with crp.ConceptAtlas(odd_atlas_file) as atlas:
        return odd_report(atlas, folder / "report").index.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=FOUND, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield opened
        opened.close()


class Tab:
    """A page of the report that collects everything that goes wrong in it."""

    def __init__(self, browser: Browser, site: str, **options: Any) -> None:
        self.site, self.wrong = site, []  # type: tuple[str, list[str]]
        self.context = browser.new_context(**{"viewport": WIDE, **options})
        self.context.set_default_timeout(10_000)
        self.page: Page = self.context.new_page()
        self.page.add_init_script(
            "document.addEventListener('securitypolicyviolation', (e) => console.error('CSP', e.violatedDirective));"
        )
        self.page.on("console", lambda said: self.wrong.append(said.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
        # A picture that is still on its way when somebody leaves the page is no failure.
        self.page.on("requestfailed", lambda one: "ABORTED" in str(one.failure) or self.wrong.append(one.url))
        self.page.on(
            "request", lambda request: None if request.url.startswith("file:") else self.wrong.append(request.url)
        )

    def open(self, address: str = "", title: str | None = None) -> Page:
        """Go to an address and wait for its title."""
        self.page.goto(f"{self.site}{address}")
        self.page.wait_for_function("() => 'view' in document.documentElement.dataset")
        if title is not None:
            self.wait(title)
        return self.page

    def wait(self, title: str) -> None:
        self.page.wait_for_function("(title) => document.title.startsWith(title)", arg=title)

    def wait_view(self, kind: str) -> None:
        self.page.wait_for_function("(kind) => document.documentElement.dataset.view === kind", arg=kind)

    def loaded_widths(self) -> list[int]:
        """Scroll through the page and return the natural width of every picture, when all have come."""
        self.page.evaluate("document.querySelectorAll('main img').forEach((one) => one.scrollIntoView())")
        self.page.wait_for_function("() => [...document.querySelectorAll('#view img')].every((one) => one.complete)")
        widths: list[int] = self.page.evaluate("[...document.querySelectorAll('#view img')].map((i) => i.naturalWidth)")
        return widths


@pytest.fixture
def tab(browser: Browser, site: str) -> Iterator[Tab]:
    opened = Tab(browser, site)
    yield opened
    opened.context.close()
    assert opened.wrong == []


def address(layer: str, concept: int | None = None) -> str:
    return f"#/{quote(layer, safe='')}" + ("" if concept is None else f"/{concept}")


def column(page: Page, number: int) -> list[str]:
    return page.locator(f".concepts tbody tr > :nth-child({number})").all_inner_texts()


def test_the_overview_names_layers_and_classes_as_they_are(tab: Tab) -> None:
    page = tab.open("", f"model {MARKUP}")
    assert page.locator("nav.layers bdi").all_inner_texts() == list(LAYERS)
    shown = [
        " ".join(one.split()) for one in page.locator("section[aria-labelledby=classes] .chips a").all_text_contents()
    ]
    assert shown == [
        f"{' '.join(escaped(name).split())} {count}" for name, count in zip(CLASSES, (8, 8, 7, 7), strict=False)
    ]
    assert page.locator("#view").is_hidden()
    page.locator("summary").first.click()
    assert page.get_by_text("Report built").is_visible()


@pytest.mark.slow
@pytest.mark.parametrize(("layer", "concept"), [(MARKUP, CONCEPT), (ODD, 0), (ODD, 8)])
def test_the_address_of_a_concept_opens_it(tab: Tab, layer: str, concept: int) -> None:
    page = tab.open(address(layer, concept), f"{layer}, concept {concept} – model")
    assert page.locator("h1:visible").inner_text() == f"{layer}, concept {concept}"
    widths = tab.loaded_widths()
    assert len(widths) >= 2 * 3 * 3
    assert min(widths) > 0
    samples = page.locator(".samples img")
    assert all(samples.nth(one).get_attribute("alt") for one in range(samples.count()))
    assert page.locator(".bars tbody tr").count() == 4
    assert page.locator("nav.layers a[aria-current]").count() == 1


@pytest.mark.slow
def test_each_layer_links_to_its_concepts_and_they_to_each_other(tab: Tab) -> None:
    page = tab.open()
    tab.wait_view("overview")
    page.locator(".card").nth(1).click()
    tab.wait(ODD)
    page.locator(".concepts tbody th a").first.click()
    tab.wait(f"{ODD}, concept")
    before = page.title()
    page.locator(".tiles a").first.click()
    page.wait_for_function("(before) => document.title !== before", arg=before)
    page.locator(".bars a").first.click()
    tab.wait_view("class")
    page.locator(".tiles a").first.click()
    tab.wait_view("concept")
    page.go_back()
    tab.wait_view("class")


@pytest.mark.slow
def test_a_table_sorts_by_every_column(tab: Tab) -> None:
    page = tab.open(address(ODD), ODD)
    relevances = [float(one.removesuffix("\u00a0%").replace("−", "-").replace("<", "")) for one in column(page, 3)]
    assert relevances == sorted(relevances, reverse=True)
    assert page.locator("[aria-sort]").inner_text() == "Relevance"
    page.get_by_role("button", name="Concept", exact=True).click()
    assert column(page, 2) == [str(one) for one in range(9)]
    page.get_by_role("button", name="Concept", exact=True).click()
    assert column(page, 2) == [str(one) for one in reversed(range(9))]
    assert page.locator("[aria-sort=descending]").inner_text() == "Concept"
    for name in ("Spread", "Activation", "Main class", "Classes served"):
        page.get_by_role("button", name=name).click()
        assert len(set(column(page, 2))) == 9
        assert page.locator("[aria-sort]").inner_text() == name


@pytest.mark.slow
def test_a_table_filters_by_number_and_class_and_remembers(tab: Tab) -> None:
    page = tab.open(address(ODD), ODD)
    page.get_by_label("Filter").fill("7")
    assert column(page, 2) == ["7"]
    assert page.get_by_role("status").inner_text() == "1 of 9 concepts"
    page.get_by_label("Filter").fill("no such thing")
    assert page.get_by_text("No concept of this layer fits").is_visible()
    page.get_by_label("Filter").fill("IMG SRC")
    assert set(column(page, 7)) <= {MARKUP}
    kept = column(page, 2)
    page.locator(".home").click()
    tab.wait_view("overview")
    page.go_back()
    tab.wait_view("layer")
    assert column(page, 2) == kept


def shown_tiles(page: Page) -> int:
    return page.locator(".tiles > li:visible").count()


@pytest.mark.slow
def test_the_overview_lists_concepts_by_layer_class_and_relevance(tab: Tab, odd_atlas_file: Path) -> None:
    page = tab.open("", "model")
    status = page.get_by_role("status")
    assert status.inner_text() == "15 concepts"
    assert status.get_attribute("aria-live") == "polite"
    assert shown_tiles(page) == 15
    assert page.get_by_role("combobox", name="Which is").is_hidden()
    page.get_by_role("combobox", name="Layer", exact=True).select_option(ODD)
    assert status.inner_text() == "9 of 15 concepts"
    with crp.ConceptAtlas(odd_atlas_file) as atlas:
        means = atlas[ODD].relevance.statistics().mean
    page.get_by_role("spinbutton", name="Relevance of at least, in %").fill("10")
    assert status.inner_text() == f"{int((abs(means) >= 0.1).sum())} of 15 concepts"
    page.get_by_role("button", name="Clear").click()
    assert status.inner_text() == "15 concepts"
    assert page.evaluate("document.activeElement.tagName") == "SELECT"
    assert page.evaluate("location.hash") == "#concepts"


@pytest.mark.slow
def test_a_class_is_the_main_one_of_concepts_or_one_that_they_serve(tab: Tab, odd_atlas_file: Path) -> None:
    page = tab.open("", "model")
    with crp.ConceptAtlas(odd_atlas_file) as atlas:
        best = [atlas[name].classes(concept) for name in LAYERS for concept in range(atlas[name].n_concepts)]
    serving = sum(2 in one.cls[(one.mean >= one.mean[0] / 2) & (one.mean[0] > 0)] for one in best)
    assert 0 < serving < 15
    page.get_by_role("combobox", name="Class", exact=True).select_option("2")
    main = shown_tiles(page)
    page.get_by_role("combobox", name="Which is").select_option("served")
    assert page.get_by_role("status").inner_text() == f"{serving} of 15 concepts"
    assert main <= shown_tiles(page) == serving
    page.get_by_role("combobox", name="Class", exact=True).select_option("")
    assert page.get_by_role("combobox", name="Which is").is_hidden()
    assert page.get_by_role("status").inner_text() == "15 concepts"


@pytest.mark.slow
def test_a_filtered_view_is_shared_by_its_address(tab: Tab, browser: Browser) -> None:
    page = tab.open("", "model")
    page.get_by_role("combobox", name="Layer", exact=True).select_option(ODD)
    page.get_by_role("combobox", name="Class", exact=True).select_option("2")
    page.get_by_role("combobox", name="Which is").select_option("served")
    page.get_by_role("spinbutton", name="Relevance of at least, in %").fill("2.5")
    status, shown = page.get_by_role("status").inner_text(), page.evaluate("location.hash")
    other = Tab(browser, tab.site)
    again = other.open(shown, "model")
    assert again.get_by_role("status").inner_text() == status
    assert again.get_by_role("combobox", name="Layer", exact=True).input_value() == ODD
    assert again.get_by_role("combobox", name="Which is").input_value() == "served"
    assert again.evaluate("document.activeElement.id") == "concepts"
    assert again.evaluate("location.hash") == shown
    again = other.open("?#concepts?layer=none&class=99&for=all&least=-1", "model")
    assert again.get_by_role("status").inner_text() == "15 concepts"
    other.context.close()
    assert other.wrong == []


@pytest.mark.slow
def test_a_table_keeps_filters_and_sorting_in_its_address(tab: Tab) -> None:
    page = tab.open(f"{address(ODD)}?class=1&least=3&sort=concept", ODD)
    assert page.locator("[aria-sort=ascending]").inner_text() == "Concept"
    assert set(column(page, 7)) <= {"</script><script>alert(3)</script>"}
    kept = column(page, 2)
    page.get_by_role("button", name="Relevance").click()
    assert "sort=-relevance" in page.evaluate("location.hash")
    assert sorted(column(page, 2), key=int) == kept
    page.locator(".concepts tbody th a").first.focus()
    page.keyboard.press("Enter")
    tab.wait_view("concept")
    page.go_back()
    tab.wait_view("layer")
    assert page.get_by_role("combobox", name="Class", exact=True).input_value() == "1"
    assert page.locator("[aria-sort=descending]").inner_text() == "Relevance"


@pytest.mark.slow
def test_tiles_of_a_class_and_of_a_sample_are_filtered(tab: Tab) -> None:
    page = tab.open("#class/1", "</s")
    everything = shown_tiles(page)
    page.get_by_role("combobox", name="Layer", exact=True).select_option(MARKUP)
    assert 0 < shown_tiles(page) < everything
    assert page.locator("#view h2 bdi").filter(visible=True).all_inner_texts() == [MARKUP]
    page.get_by_role("spinbutton", name="Relevance of at least, in %").fill("1000")
    assert shown_tiles(page) == 0
    assert page.get_by_role("status").inner_text() == "0 of 15 concepts"
    assert page.evaluate("location.hash").startswith("#class/1?layer=")
    number = page.evaluate("crpKit.about.shown[0]")
    texts = tab.open(f"#sample/{number}", "folder/").locator(".tiles small").all_inner_texts()
    large = [text for text in texts if abs(float(text.removesuffix("\u00a0%").replace("−", "-"))) >= 20]
    page.get_by_role("spinbutton", name="Relevance of at least, in %").fill("20")
    assert 0 < shown_tiles(page) == len(large) < len(texts)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "title"),
    [("שכבה", ODD), ("img 4", f"{MARKUP}, concept 4"), ("قطة", "قطة"), ("</script><script>alert(3)", "</script>")],
)
def test_search_finds_layers_concepts_and_classes(tab: Tab, typed: str, title: str) -> None:
    page = tab.open()
    tab.wait_view("overview")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type(typed)
    assert page.locator("#results [data-to]").count() >= 1
    page.keyboard.press("Enter")
    tab.wait(title)
    assert page.locator("#results").is_hidden()


@pytest.mark.slow
def test_search_finds_samples_by_their_names_and_leaves_out_classes_without_samples(tab: Tab) -> None:
    page = tab.open("", "model")
    page.keyboard.press("/")
    page.wait_for_function("() => document.head.querySelectorAll('script').length > 0")
    page.locator("#search").fill("folder")
    page.locator("#results small", has_text="sample").first.wait_for()
    page.locator("#results [data-to]").first.click()
    tab.wait("folder/")
    assert page.locator("h1:visible").inner_text().startswith("folder/")
    page.locator("#search").fill("日本")
    assert page.get_by_text("Nothing found").is_visible()


@pytest.mark.slow
def test_a_sample_shows_its_pictures_predictions_and_concepts(tab: Tab) -> None:
    page = tab.open(address(ODD, 0), f"{ODD}, concept 0")
    link = page.locator(".samples figcaption a[href^='#sample']").first
    name = link.inner_text()
    link.click()
    tab.wait(name)
    assert min(tab.loaded_widths()) > 0
    assert page.locator(".sample .facts").first.locator("tr").count() == len(CLASSES)
    page.locator(".tiles a").first.click()
    tab.wait_view("concept")


@pytest.mark.slow
def test_a_class_begins_with_its_samples_and_their_heatmaps(tab: Tab) -> None:
    page = tab.open("#class/1", "</s")
    samples = page.locator(".pairs li")
    assert samples.count() >= 1
    assert page.locator(".pairs img").count() == 2 * samples.count()
    assert min(tab.loaded_widths()) > 0
    samples.first.locator("a").click()
    tab.wait_view("sample")


@pytest.mark.slow
def test_the_concept_graph_of_a_class_leads_to_concepts_and_says_what_is_absorbed(tab: Tab) -> None:
    page = tab.open("#class/1", "</s")
    page.get_by_role("link", name="Concept graph: how the model comes to this class").click()
    tab.wait("Concept graph of </script>")
    assert page.locator("h1:visible").inner_text() == "How the model comes to </script><script>alert(3)</script>"
    data: dict[str, Any] = page.evaluate("crpKit.load('graph-1')")
    assert page.locator(".graph .plane > a").count() == len(data["boxes"])
    assert page.locator(".graph path").count() == len(data["edges"])
    assert min(tab.loaded_widths()) > 0
    said = page.locator(".sentences li").all_inner_texts()
    absorbed = f"biases, stabilizers and other paths absorb {round(100 * data['boxes'][0][5])}\u00a0%."
    assert said[0].endswith(absorbed)
    assert len(said) == sum(box[5] is not None for box in data["boxes"])
    page.locator(".graph .plane > a").nth(1).focus()
    page.keyboard.press("Enter")
    tab.wait_view("concept")
    page.go_back()
    tab.wait_view("graph")
    page.get_by_role("link", name="قطة").click()
    tab.wait("Concept graph of قطة")


@pytest.mark.slow
def test_pictures_are_enlarged_by_click_and_by_key(tab: Tab) -> None:
    page = tab.open(address(ODD, 0), f"{ODD}, concept 0")
    picture = page.locator(".enlarge").first
    small = picture.locator(".cell").first.bounding_box()
    picture.focus()
    page.keyboard.press("Enter")
    large = page.locator("dialog .cell").first.bounding_box()
    assert small is not None
    assert large is not None
    assert large["width"] > 1.5 * small["width"]
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")  # a browser says that a dialog is closed a moment later
    picture.click()
    page.get_by_role("button", name="Close").click()
    page.locator("dialog").wait_for(state="detached")


@pytest.mark.slow
def test_discs_in_the_plane_lead_to_their_concepts(tab: Tab) -> None:
    page = tab.open(address(ODD), ODD)
    assert page.locator(".scatter a").count() == 9
    page.locator(".scatter a").nth(4).dispatch_event("click")
    tab.wait(f"{ODD}, concept 4")


@pytest.mark.slow
def test_concepts_in_the_plane_have_their_numbers_where_there_is_room(
    browser: Browser, odd_atlas_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = np.array([[number // 2 + 0.06 * (number % 2), 0.0] for number in range(9)])  # four pairs, and one alone
    monkeypatch.setattr(LayerFacts, "_places", lambda facts: places[: len(facts.ids)])
    with crp.ConceptAtlas(odd_atlas_file) as atlas:
        tab = Tab(browser, odd_report(atlas, tmp_path / "report").index.as_uri())
    labels = tab.open(address(ODD), ODD).locator(".scatter text")
    assert sum(label.is_visible() for label in labels.all()) == 9
    tab.page.set_viewport_size({"width": 360, "height": 900})
    assert sum(label.is_visible() for label in labels.all()) == 5
    tab.context.close()
    assert tab.wrong == []


@pytest.mark.slow
def test_search_is_led_by_arrows_and_left_by_escape(tab: Tab) -> None:
    page = tab.open("", "model")
    page.locator("#search").fill("3")
    options = page.locator("#results [data-to]")
    assert options.count() >= 2
    page.keyboard.press("ArrowDown")
    assert options.nth(1).get_attribute("aria-selected") == "true"
    assert page.locator("#search").get_attribute("aria-activedescendant") == "result-1"
    page.keyboard.press("Escape")
    assert page.locator("#results").is_hidden()
    page.locator("#search").fill("nothing at all")
    assert page.get_by_text("Nothing found").is_visible()
    page.locator("#search").fill("3")
    options.nth(0).click()
    tab.wait(f"{MARKUP}, concept 3")


@pytest.mark.slow
def test_arrows_go_to_neighbours_and_through_rows(tab: Tab) -> None:
    page = tab.open(address(ODD, 0), f"{ODD}, concept 0")
    page.keyboard.press("ArrowRight")
    tab.wait(f"{ODD}, concept 1")
    assert page.evaluate("document.activeElement.tagName") == "H1"
    page.keyboard.press("ArrowLeft")
    tab.wait(f"{ODD}, concept 0")
    page.keyboard.press("ArrowLeft")  # there is none before the first
    page.goto(f"{tab.site}{address(ODD)}")
    tab.wait_view("layer")
    rows = page.locator(".concepts tbody th a")
    rows.first.focus()
    page.keyboard.press("ArrowDown")
    assert rows.nth(1).evaluate("(one) => one === document.activeElement")
    outline = rows.nth(1).evaluate("(one) => getComputedStyle(one).outlineStyle")
    assert outline == "solid"


@pytest.mark.slow
def test_the_first_tab_skips_to_the_content(tab: Tab) -> None:
    page = tab.open(address(ODD, 0), ODD)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    assert page.title().startswith(f"{ODD}, concept 0")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "said"),
    [("#graph/4", "no concept graph 4"), ("#graph/x", "no concept graph x"),
     ("#/none", "no layer none"), (address(ODD, 99), "no concept 99 of"), ("#class/99", "no class 99"),
     ("#/%E0%A4%A", "no layer %E0%A4%A"), (f"{address(ODD)}/x", "no concept x of")],
)  # fmt: skip
def test_an_address_that_is_not_there_is_told(tab: Tab, where: str, said: str) -> None:
    page = tab.open(where, "Nothing here")
    assert page.get_by_text(f"This report has {said}").is_visible()


@pytest.mark.slow
def test_a_class_without_samples_says_so(tab: Tab) -> None:
    page = tab.open("#class/4", "日本語")
    assert page.get_by_text("The atlas has no sample of this class").is_visible()


def test_two_classes_are_compared_by_a_menu_and_by_the_address(tab: Tab) -> None:
    page = tab.open("#class/1", "</s")
    menu = page.get_by_label("Another class, the most alike")
    menu.focus()
    menu.select_option(value="3")
    page.wait_for_function("() => location.hash === '#class/1/3'")
    page.locator("table.compared").first.wait_for()
    assert page.locator("table.compared").count() == len(LAYERS)
    assert page.evaluate("document.activeElement.id") == "compare"
    assert page.locator("#other").input_value() == "3"
    means = page.locator("table.compared").first.locator("tbody tr").first.locator("td.number").all_inner_texts()
    assert len(means) == 4
    page.locator("table.compared tbody a").first.click()
    tab.wait_view("concept")
    page.go_back()
    page.locator("table.compared").first.wait_for()
    page.locator("#other").select_option(value="")
    page.wait_for_function("() => location.hash === '#class/1'")
    assert page.locator("table.compared").count() == 0


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_scrolls_sideways_on_a_narrow_screen(browser: Browser, site: str, scheme: Any) -> None:
    tab = Tab(browser, site, viewport=NARROW, color_scheme=scheme)
    for where, title in (
        ("", "model"),
        ("#concepts?class=1&least=1", "model"),
        (address(ODD), ODD),
        (address(MARKUP, 2), f"{MARKUP}, concept 2"),
        ("#class/1", "</s"),
        ("#class/1/3", "</s"),
        ("#graph/1", "Concept graph"),
    ):
        page = tab.open(where, title)
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"], where
    tab.context.close()
    assert tab.wrong == []


NAMED = ("Staffordshire bullterrier and not (red or round) " * 20, "Kapitänsmützenabzeichenverordnung" * 20)


def test_long_names_of_concepts_take_three_lines_beside_their_numbers_and_are_whole_on_their_pages(
    browser: Browser, odd_atlas_file: Path, tmp_path: Path
) -> None:
    file = shutil.copy(odd_atlas_file, tmp_path / "atlas.h5")
    with crp.ConceptAtlas(file) as atlas:
        for layer in LAYERS:
            write_names(atlas, layer, dict(enumerate(NAMED)))
        site = odd_report(atlas, tmp_path / "report").index.as_uri()
    for viewport in (NARROW, WIDE):
        tab = Tab(browser, site, viewport=viewport)
        for where, title in ((address(ODD), ODD), ("#class/1", "</s")):
            page = tab.open(where, title)
            heights = page.evaluate(
                "[...document.querySelectorAll('.called')].map((one) => [one.offsetHeight, "
                "parseFloat(getComputedStyle(one).lineHeight)])"
            )
            assert heights
            assert all(height <= 3 * line + 1 for height, line in heights), where
            assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], where
        page = tab.open(address(ODD, 0), f"{ODD}, concept 0")
        assert NAMED[0].strip() in page.inner_text("main")
        tab.context.close()
        assert tab.wrong == []


PHONE = {"width": 360, "height": 740}
PAGE_FACTS = """() => {
  const shown = (one) => one.checkVisibility();
  const all = (what) => [...document.querySelectorAll(what)].filter(shown);
  return {
    headings: all("h1").length,
    title: document.title.trim(),
    language: document.documentElement.lang,
    width: document.documentElement.scrollWidth,
    unnamed: all("img:not([alt])").length,
    links: all("a[href]").map((one) => one.getAttribute("href")),
  };
}"""
"""What every page has to have, and the addresses that it leads to."""


@pytest.mark.slow
def test_every_link_leads_to_a_page_and_every_page_is_whole_on_a_phone(browser: Browser, site: str) -> None:
    tab = Tab(browser, site, viewport=PHONE)
    page, waiting = tab.open("", "model"), [""]
    seen: set[str] = set()
    kinds: set[str] = set()
    while waiting:
        where = waiting.pop()
        seen.add(where)
        if where:
            page.evaluate("(to) => { delete document.documentElement.dataset.view; location.hash = to; }", where)
            page.wait_for_function("() => 'view' in document.documentElement.dataset")
        kind = page.evaluate("document.documentElement.dataset.view")
        kinds.add(kind)
        facts: dict[str, Any] = page.evaluate(PAGE_FACTS)
        assert kind != "missing", where
        assert facts["headings"] == 1, where
        assert facts["title"], where
        assert facts["language"] == "en"
        assert facts["unnamed"] == 0, where
        assert facts["width"] <= PHONE["width"], where
        assert all(link.startswith("#") for link in facts["links"]), where
        assert min(tab.loaded_widths(), default=1) > 0, where
        waiting += {link for link in facts["links"] if link not in seen | {"#", "#main"}} - set(waiting)
    assert kinds == {"overview", "layer", "concept", "class", "graph", "sample"}
    tab.context.close()
    assert tab.wrong == []


CONTRASTS = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const pixel = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const bright = (rgb) => {
    const linear = (one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = rgb.map((one) => linear(one / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const colour = pixel(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour.slice(0, 3);
    }
  };
  const ratio = (one, colour) => {
    const [low, high] = [bright(pixel(colour).slice(0, 3)), bright(behind(one))].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const found = [];
  for (const one of document.querySelectorAll("body *")) {
    if (!one.checkVisibility()) continue;
    if (one.tagName === "INPUT") {
      found.push([ratio(one, getComputedStyle(one, "::placeholder").color) / 4.5, "placeholder"]);
      found.push([ratio(one.parentElement, getComputedStyle(one).borderTopColor) / 3, "border of a field"]);
    }
    if ([...one.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim()))
      found.push([ratio(one, getComputedStyle(one).color) / 4.5, one.outerHTML.slice(0, 80)]);
  }
  return found;
}"""
"""Contrast of every visible text and field, as a share of what WCAG 2.2 asks for at level AA, and what it is."""


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_high_enough_everywhere(browser: Browser, site: str, scheme: Any) -> None:
    tab = Tab(browser, site, color_scheme=scheme)
    for where, title in (
        ("", "model"),
        (address(ODD), ODD),
        (address(ODD, 1), f"{ODD}, concept 1"),
        ("#class/1", "</s"),
        ("#class/1/3", "</s"),
        ("#graph/1", "Concept graph"),
    ):
        found = tab.open(where, title).evaluate(CONTRASTS)
        assert len(found) > 20
        assert [one for one in found if one[0] < 1] == []
    tab.page.locator("#search").fill("3")
    assert [one for one in tab.page.evaluate(CONTRASTS) if one[0] < 1] == []
    tab.context.close()
    assert tab.wrong == []


@pytest.mark.slow
def test_pages_explain_their_words(tab: Tab) -> None:
    page = tab.open(address(ODD, 1), f"{ODD}, concept 1")
    for said in ("contributes most to the model's output", "responds most, whether the model used it or not",
                 "starting from the class that is named below", "red bars for it, blue against it",
                 "Correlation of relevance over the 30 samples"):  # fmt: skip
        assert page.locator("#view").get_by_text(said).is_visible(), said
    assert all(page.locator(f".legend :text('{one}')").is_visible() for one in ("against (−)", "for (+)"))
    page.goto(f"{tab.site}{address(ODD)}")
    tab.wait_view("layer")
    assert page.get_by_text("Relevance is a concept's share of all relevance in this layer").is_visible()
    page.get_by_text("What the columns mean").click()
    tab.wait_view("overview")
    heading = page.locator("#reading")
    assert heading.evaluate("(one) => one === document.activeElement")
    assert heading.bounding_box()["y"] >= page.locator(".top").bounding_box()["height"]  # type: ignore[index]


@pytest.mark.slow
def test_what_is_found_has_the_width_of_a_narrow_screen(browser: Browser, site: str) -> None:
    tab = Tab(browser, site, viewport=NARROW)
    page = tab.open("", "model")
    assert page.get_by_role("button", name="Theme: auto").is_visible()
    page.locator("#search").fill("3")
    box = page.locator("#results").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert 0.9 * NARROW["width"] < box["width"] < NARROW["width"]
    tab.context.close()
    assert tab.wrong == []


@pytest.mark.slow
def test_links_that_are_shares_are_shown_in_percent(browser: Browser, odd_atlas_file: Path, tmp_path: Path) -> None:
    with crp.ConceptAtlas(odd_atlas_file) as atlas:
        tab = Tab(browser, odd_report(atlas, tmp_path / "report", links="graph", references=1).index.as_uri())
    shown = tab.open(address(MARKUP, 1), f"{MARKUP}, concept 1").locator(".tiles a:has(bdi) small:last-child")
    assert shown.count() >= 1
    assert all(re.fullmatch(r"[\d.]+\u00a0%", one) for one in shown.all_inner_texts())
    tab.context.close()
    assert tab.wrong == []


@pytest.mark.slow
def test_light_and_dark_follow_the_system_and_the_button(browser: Browser, site: str) -> None:
    tab = Tab(browser, site, color_scheme="dark")
    page = tab.open("", "model")

    def brightness() -> int:
        colour: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return int(re.findall(r"\d+", colour)[0])

    assert brightness() < 60
    page.locator("#theme").click()
    assert brightness() > 200
    page.locator("#theme").click()
    assert brightness() < 60
    tab.context.close()
    assert tab.wrong == []


@pytest.mark.slow
def test_pages_from_outside_open_by_their_addresses(odd_atlas_file: Path, browser: Browser, tmp_path: Path) -> None:
    article, script = tmp_path / "counts.html", tmp_path / "names.js"
    article.write_text('<article id="counts"><h1>Counts</h1><p>{{ count }} layers</p></article>')
    script.write_text("""
crpKit.page("names", {
  read: ([number]) => ({ number: Number(number) }),
  view: async ({ number }) => {
    const names = await crpKit.load("names");
    return { title: "Names", parts: [crpKit.heading("Names"), crpKit.el("p", { class: "name" }, names[number])] };
  },
});
""")
    register_page(ReportPage("counts", lambda report: [("count", len(report.chosen))], article, title="Counts"))
    register_page(ReportPage("names", lambda report: [("names", list(report.chosen))], script))
    try:
        with crp.ConceptAtlas(odd_atlas_file) as opened:
            index = odd_report(opened, tmp_path / "report", concept_ids=[0], references=1).index
    finally:
        unregister_page("counts")
        unregister_page("names")
    tab = Tab(browser, index.as_uri())
    page = tab.open("#names/1", "Names – model")
    assert page.locator(".name").inner_text() == ODD
    page.get_by_role("link", name="Counts").click()
    tab.wait("Counts – model")
    assert page.get_by_text("2 layers", exact=True).is_visible()
    assert page.locator("#view").is_hidden()
    assert page.locator("#overview").is_hidden()
    assert page.locator("nav.layers a[aria-current]").inner_text() == "Counts"
    page.locator(".home").click()
    tab.wait_view("overview")
    assert page.locator("#overview").is_visible()
    tab.context.close()
    assert tab.wrong == []


@pytest.mark.slow
def test_what_is_not_allowed_is_refused(browser: Browser, site: str) -> None:
    tab = Tab(browser, site)
    page = tab.open("", "model")
    page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'document.title = \"broken\"';"
        " document.head.append(s);"
        " const i = new Image(); i.src = 'https://example.invalid/x.png'; document.body.append(i);"
        " document.body.insertAdjacentHTML('beforeend', '<b onclick=\"document.title = 1\" id=b>x</b>');"
        " document.getElementById('b').click(); }"
    )
    page.wait_for_timeout(100)
    assert page.title().startswith("model")
    assert {one.removeprefix("CSP ") for one in tab.wrong if one.startswith("CSP ")} >= {"script-src-elem", "img-src"}
    tab.context.close()


@pytest.mark.slow
def test_a_file_that_is_missing_is_told(site: str, browser: Browser, tmp_path: Path) -> None:
    source = Path(unquote(urlsplit(site).path)).parent
    copied = shutil.copytree(source, tmp_path / "report")
    (copied / "data" / "layer-0.js").unlink()
    tab = Tab(browser, (copied / "index.html").as_uri())
    page = tab.open(address(MARKUP), "Cannot be shown")
    assert (
        page.get_by_role("alert").inner_text() == "data/layer-0.js cannot be read; the report's folder is not complete"
    )
    tab.context.close()
