"""What people are told, and when they are left alone."""

from __future__ import annotations

from dataclasses import replace

from unit.test_machine import NOW, SWITCH, record

from daybreak.milestones import milestones
from daybreak.model import Phase, Side, SwitchTimings, Verb, Verification

BEFORE = record(Phase.STREAMING, Verb.CUTOVER, intent=None)
TIMINGS = SwitchTimings(1.0, 2.0, 3.0, 4.0, 5.0, 61.4)
EQUAL = Verification(NOW, 11, 229_185, 3.0)
DONE = replace(SWITCH, timings=TIMINGS, certificate=EQUAL, settled=True)


def test_nothing_new_is_not_told() -> None:
    assert milestones(BEFORE, replace(BEFORE, version=9, generation=7, owner="somebody else")) == ()


def test_phases_that_matter() -> None:
    loading = replace(BEFORE, phase=Phase.LOADING)
    (told,) = milestones(loading, BEFORE)
    assert told.subject == "shop: source and target are in step"
    assert milestones(BEFORE, replace(BEFORE, phase=Phase.SWITCHING)) == ()
    assert milestones(BEFORE, replace(BEFORE, phase=Phase.ABORTED))[0].subject == "shop: aborted, every trace removed"


def test_a_cutover_says_pause_and_proof() -> None:
    (told,) = milestones(BEFORE, replace(BEFORE, primary=Side.TARGET, last_switchover=DONE))
    assert told.subject == "shop: the target is the primary now"
    assert "Writes paused for 61 ms." in told.text
    assert "equal at the fence: 11 tables, 229,185 rows" in told.text
    assert told.metric == "CutoverSuccess"


def test_a_rollback_and_what_could_not_be_proved() -> None:
    back = replace(DONE, to=Side.SOURCE, certificate=None, number=2)
    (told,) = milestones(replace(BEFORE, primary=Side.TARGET), replace(BEFORE, last_switchover=back))
    assert (told.metric, told.subject) == ("Rollback", "shop: the source is the primary now")
    assert "run `daybreak verify`" in told.text
    differing = replace(DONE, certificate=replace(EQUAL, differences=("public.t: 1 row",)))
    (told,) = milestones(BEFORE, replace(BEFORE, primary=Side.TARGET, last_switchover=differing))
    assert "1 DIFFERENCES were found at the fence: public.t: 1 row." in told.text


def test_backing_out_is_told_once() -> None:
    backed_out = replace(SWITCH, backed_out="the standby had not applied everything")
    after = replace(BEFORE, last_switchover=backed_out, last_error=backed_out.backed_out)
    (told,) = milestones(BEFORE, after)
    assert told.subject == "shop: the cutover backed out"
    assert told.metric == "CutoverFailure"
    assert milestones(after, after) == ()


def test_shares_and_refusals() -> None:
    (shifted,) = milestones(BEFORE, replace(BEFORE, read_weight=20))
    assert shifted.subject == "shop: 20% of reads go to the target"
    (refused,) = milestones(BEFORE, replace(BEFORE, last_error="Not switched. lag: 9 s"))
    assert refused.subject == "shop: something was refused"
    assert "lag: 9 s" in refused.text
