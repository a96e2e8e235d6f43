"""The section of experts."""

from tests.report.html import EVIL, Page, assert_harmless
from tests.report.made_up import a_gate, a_report, some_experts
from uniperceiver.evaluation.experts import idle_gates
from uniperceiver.report.run.experts import experts_section
from uniperceiver.report.run.page import render_run


def test_a_dense_model_has_no_section() -> None:
    assert experts_section(None) is None
    assert "Experts" not in Page(render_run(a_report())).words


def test_own_copies_are_a_sentence() -> None:
    section = experts_section(some_experts([], condition="task_specific"))
    assert section is not None
    assert "each task has its own copy" in section.explained
    assert not section.panels


def test_a_panel_for_each_part_and_a_legend_for_each_kind_of_tokens() -> None:
    section = experts_section(some_experts())
    assert section is not None
    assert [title for title, _, _ in section.panels] == ["Attention", "FFN"]
    assert [kind for _, kind in section.kinds] == ["visual", "text candidates"]
    assert [text for _, text in section.weights][1] == "25\u202f% (all alike)"
    page = Page(render_run(a_report(experts=some_experts())))
    assert {"Attention", "FFN", "layer 0", "layer 2", "birds, tales · visual", "words · text candidates"} <= (
        set(page.words)
    )
    assert "layer 1" not in page.words


def test_on_a_phone_names_stand_above_their_rows() -> None:
    section = experts_section(some_experts())
    assert section is not None
    for _, wide, narrow in section.panels:
        assert sorted(set(Page(wide).words)) == sorted(set(Page(narrow).words))
        widths = [float(figure.split('viewBox="0 0 ')[1].split()[0]) for figure in (wide, narrow)]
        assert widths[1] <= 330 < widths[0]


def test_many_layers_fit_a_phone() -> None:
    figures = [a_gate("birds", layer, "ffn", weight=[0.3, 0.7, *[0.0] * 6]) for layer in range(5)]
    section = experts_section(some_experts(figures, experts=8))
    assert section is not None
    ((_, wide, narrow),) = section.panels
    widths = [float(figure.split('viewBox="0 0 ')[1].split()[0]) for figure in (wide, narrow)]
    assert widths[1] <= 330 < 800 < widths[0]


def test_gates_that_do_nothing_are_said_above_the_panels() -> None:
    experts = some_experts(
        [a_gate("birds", weight=[1.0, 0, 0, 0], top1=0.99), a_gate("tales", weight=[0.9, 0.1, 0, 0])]
    )
    section = experts_section(experts)
    assert section is not None
    assert list(section.idle) == idle_gates(experts) != []
    assert section.idle[0] in " ".join(Page(render_run(a_report(experts=experts))).words)


def test_names_never_become_tags() -> None:
    experts = some_experts([a_gate(EVIL, weight=[1.0, 0, 0, 0])], condition=EVIL)
    assert_harmless(render_run(a_report(experts=experts)))


def test_a_large_model_is_a_small_section() -> None:
    weight = [(index + 1) / 36 for index in range(8)]
    figures = [
        a_gate(f"task {index}", layer, part, weight=weight, side=side, entropy=float(index))
        for index in range(12)
        for layer in range(12)
        for part in ("attention", "ffn")
        for side in ("input", "candidate")
    ]
    section = experts_section(some_experts(figures, experts=8))
    assert section is not None
    assert sum(len(figure.encode()) for _, *figures in section.panels for figure in figures) < 1_500_000
