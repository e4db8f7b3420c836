"""What people are told, and when they are left alone."""

from __future__ import annotations

from dataclasses import replace

from unit.test_machine import NOW, SWITCH, record

from daybreak.milestones import milestones, told
from daybreak.model import Phase, Side, SwitchTimings, Told, Verb, Verification

KNOWN = Told(Phase.STREAMING)
BEFORE = record(Phase.STREAMING, Verb.CUTOVER, intent=None, told=KNOWN)
TIMINGS = SwitchTimings(1.0, 2.0, 3.0, 4.0, 5.0, 61.4)
EQUAL = Verification(NOW, 11, 229_185, 3.0)
DONE = replace(SWITCH, timings=TIMINGS, certificate=EQUAL, settled=True)


def test_nothing_new_is_not_told() -> None:
    assert milestones(replace(BEFORE, version=9, generation=7, owner="somebody else")) == ()


def test_phases_that_matter() -> None:
    (news,) = milestones(replace(BEFORE, told=Told(Phase.LOADING)))
    assert news.subject == "shop: source and target are in step"
    assert milestones(replace(BEFORE, phase=Phase.SWITCHING)) == ()
    assert milestones(replace(BEFORE, phase=Phase.ABORTED))[0].subject == "shop: aborted, every trace removed"


def test_a_cutover_says_pause_and_proof() -> None:
    (news,) = milestones(replace(BEFORE, primary=Side.TARGET, last_switchover=DONE))
    assert news.subject == "shop: the target is the primary now"
    assert "Writes paused for 61 ms." in news.text
    assert "equal at the fence: 11 tables, 229,185 rows" in news.text
    assert news.metric == "CutoverSuccess"


def test_a_rollback_and_what_could_not_be_proved() -> None:
    back = replace(DONE, to=Side.SOURCE, certificate=None, number=2)
    (news,) = milestones(replace(BEFORE, last_switchover=back))
    assert (news.metric, news.subject) == ("Rollback", "shop: the source is the primary now")
    assert "run `daybreak verify`" in news.text
    differing = replace(DONE, certificate=replace(EQUAL, differences=("public.t: 1 row",)))
    (news,) = milestones(replace(BEFORE, primary=Side.TARGET, last_switchover=differing))
    assert "1 DIFFERENCES were found at the fence: public.t: 1 row." in news.text


def test_backing_out_is_told_once() -> None:
    backed_out = replace(SWITCH, backed_out="the standby had not applied everything")
    after = replace(BEFORE, last_switchover=backed_out, last_error=backed_out.backed_out)
    (news,) = milestones(after)
    assert news.subject == "shop: the cutover backed out"
    assert news.metric == "CutoverFailure"
    assert milestones(replace(after, told=told(after))) == ()


def test_shares_and_refusals() -> None:
    (shifted,) = milestones(replace(BEFORE, read_weight=20))
    assert shifted.subject == "shop: 20% of reads go to the target"
    (refused,) = milestones(replace(BEFORE, last_error="Not switched. lag: 9 s"))
    assert refused.subject == "shop: something was refused"
    assert "lag: 9 s" in refused.text


def test_a_resumed_switchover_is_not_the_end_of_the_load() -> None:
    switching = replace(BEFORE, phase=Phase.SWITCHING, switchover=SWITCH)
    assert told(switching).phase is Phase.STREAMING
    assert milestones(replace(BEFORE, told=told(switching))) == ()


def test_what_differs_is_told_once_and_what_is_equal_is_not() -> None:
    assert milestones(replace(BEFORE, verification=EQUAL)) == ()
    differing = replace(BEFORE, verification=replace(EQUAL, differences=("public.t: 1 row",)))
    (news,) = milestones(differing)
    assert news.subject == "shop: BOTH SIDES DIFFER"
    assert "public.t: 1 row" in news.text
    assert milestones(replace(differing, told=told(differing))) == ()
    (unfinished,) = milestones(replace(BEFORE, verification=replace(EQUAL, complete=False)))
    assert "certificate_seconds" in unfinished.text


def test_a_failure_that_is_tried_again_is_no_refusal() -> None:
    failing = record(Phase.STREAMING, Verb.SHIFT, told=KNOWN, last_error="Not authorized: route53")
    (news,) = milestones(failing)
    assert news.subject == "shop: shift fails and is tried again"
    assert "Not authorized" in news.text


def test_reads_that_go_back_by_themselves_say_why_in_one_message() -> None:
    harmed = replace(BEFORE, told=replace(KNOWN, read_weight=50), last_error="Reads went back: it does not answer.")
    (news,) = milestones(harmed)
    assert news.subject == "shop: 0% of reads go to the target"
    assert "it does not answer" in news.text
