from segqa.output.estimate_ci import github_lines
from segqa.spe.estimating import Estimates
from segqa.spe.gating import Gate


def test_a_summary_that_cannot_be_written_is_said_beside_the_broken_gates(tmp_path):
    place = tmp_path / "none" / "summary.md"
    environment = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(place)}
    gates = [Gate("dice under 0.9", "dice 0.5 reaches under 0.9", is_broken=True)]
    told, broken = github_lines(Estimates([], 3, 0.0), gates, environment=environment)
    assert told.startswith(f"::warning title=segqa::{place}: the step summary cannot be written (")
    assert broken == "::error title=segqa spe-estimate::dice 0.5 reaches under 0.9"
