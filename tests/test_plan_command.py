"""``fdbench plan`` and ``doctor``: what would run, with which command, and what cannot and why."""

import json
from dataclasses import replace

import pynvml
import pytest
from rich.console import Console

from harness.cli.progress import PlainWatcher
from harness.environments.doctor import missing
from harness.machine.telemetry import SLOWED
from harness.plan.cells import need_of, plan_suite
from harness.plan.estimate import FRAMES_S_PER_GB, READ_S_PER_GB, START_S, estimate
from harness.plan.suites import load_devices, load_recipes, load_suite, suite_names
from harness.units import format_duration
from tests.fakes.command import fdbench
from tests.fakes.nvml import Gpu, Nvml
from tests.test_report import pair_row

pytestmark = pytest.mark.unit


def planned(*words) -> dict[str, dict]:
    """``fdbench plan --json`` by cell."""
    done = fdbench("plan", *words, "--json")
    assert done.code == 0, done.err
    return {cell["cell_id"]: cell for cell in json.loads(done.out)}


def test_four_gpu_rows_run_under_torchrun():
    """The seed's four-GPU recipe is launched as its page says."""
    cell = planned("--suite", "per-step", "--gpu", "gb200")["lingbot-world-fast/gb200/official"]

    start = "torchrun --nproc_per_node=4 --no-python flashdreams-run lingbot-world-fast"
    assert cell["flashdreams"] == f"{start} --job job.json"
    assert cell["published"] == f"{start} --total-blocks 21"


def test_one_gpu_rows_are_the_published_lines():
    """The seed's example command stands beside the cell's own."""
    cells = planned("--suite", "per-step", "--gpu", "h100")

    assert cells["self-forcing-wan2.1-t2v-1.3b-taehv/h100/fastvideo"]["published"] == (
        "flashdreams-run self-forcing-wan2.1-t2v-1.3b-taehv --total-blocks 7"
    )
    assert cells["wan21-t2v-1.3b-480p/h100/official"]["published"] == (
        "flashdreams-run wan21-t2v-1.3b-480p"
    )


@pytest.mark.parametrize("suite", suite_names())
@pytest.mark.parametrize("device", sorted(load_devices()))
def test_every_cell_runs_or_says_why_not(suite, device):
    """Each cell of the suite is there once, either with trials or with a reason."""
    cells = planned("--suite", suite, "--gpu", device)

    assert len(cells) == len(load_suite(suite)[1].cells)
    for cell in cells.values():
        assert bool(cell["trials"]) != bool(cell["cannot_run"])


@pytest.mark.parametrize(
    ("words", "cell", "reason"),
    [
        pytest.param(
            ("per-scene", "gb200"),
            "flashvsr-v1.1-sparse-ratio-2.0/gb200/official/384x384",
            "no FlashDreams runner yet",
            id="no-runner",
        ),
        pytest.param(
            ("per-step", "cpu"),
            "self-forcing-wan2.1-t2v-1.3b-taehv/cpu/fastvideo",
            "full size needs a GPU",
            id="no-gpu",
        ),
        pytest.param(
            ("per-step", "h100"),
            "wan21-i2v-14b-480p/h100/official",
            "its weights and KV cache need 86 GB a GPU, it has 80",
            id="too-large",
        ),
    ],
)
def test_what_cannot_run_says_why(words, cell, reason):
    """The reason names what is missing."""
    suite, device = words
    assert reason in planned("--suite", suite, "--gpu", device)[cell]["cannot_run"]


def test_text_says_that_estimates_are_estimates():
    """No reader may take a planned time for a measured one."""
    done = fdbench("plan", "--suite", "per-step", "--gpu", "gb200")

    assert done.code == 0
    assert "estimates from shapes and nominal speed, not measurements" in done.out
    assert "11 of 15 cells can run on gb200" in done.out


def test_text_ends_with_the_whole_suite():
    """Cells, trials and time add up, and memory is that of the largest."""
    cells = planned("--suite", "per-step", "--gpu", "h200").values()
    done = fdbench("plan", "--suite", "per-step", "--gpu", "h200").out
    run = [cell for cell in cells if not cell["cannot_run"]]

    seconds = format_duration(sum(cell["seconds"] for cell in run))
    trials = sum(cell["trials"] for cell in run)
    most = max(cell["memory_gb"] for cell in run)
    assert (
        f"In all: {len(run)} cells, {trials} trials, about {seconds}, at most {most:g} GB a GPU\n"
    ) in done
    assert "  on FlashDreams' page: flashdreams-run wan21-t2v-1.3b-480p\n" in done
    assert "published by" not in done


def test_suite_without_estimates_claims_none():
    """A tiny suite has neither time nor memory to tell."""
    done = fdbench("plan", "--suite", "smoke", "--gpu", "cpu").out

    assert done.endswith("In all: 2 cells, 10 trials\n")


def test_estimates_follow_the_shapes():
    """Two bytes a weight, plus keys and values of the window; CFG doubles cache and work."""
    recipes, devices = load_recipes(), load_devices()
    name, suite = load_suite("per-step")
    plan = plan_suite(name, suite, recipes, "h100", devices["h100"])
    jobs = {cell.cell_id: cell.trials[0].job for cell in plan.cells}
    parameters = recipes.networks["wan2.1-t2v-1.3b"].parameters

    streaming = estimate(
        jobs["self-forcing-wan2.1-t2v-1.3b-taehv/h100/fastvideo"], parameters, devices["h100"]
    )
    guided = estimate(jobs["wan21-t2v-1.3b-480p/h100/official"], parameters, devices["h100"])

    cache_gb = 2 * 32760 * 1536 * 30 * 2 / 1e9
    assert streaming.memory_gb == pytest.approx(2.838 + cache_gb, abs=0.01)
    assert guided.memory_gb == pytest.approx(2.838 + 2 * cache_gb, abs=0.01)
    steps, frames = jobs["wan21-t2v-1.3b-480p/h100/official"], 21
    unguided = estimate(replace(steps, guidance=1.0), parameters, devices["h100"])
    assert steps.len_t == frames
    start_s = START_S + READ_S_PER_GB * 2.838
    work_s, unguided_s = guided.seconds - start_s, unguided.seconds - start_s
    assert work_s / unguided_s == pytest.approx(2, rel=1e-3)  # a whole video has no KV update


def test_frames_take_time_too():
    """29 MB an AR step at 480p, which every process saves and the judge compares."""
    name, suite = load_suite("per-step")
    plan = plan_suite(name, suite, load_recipes(), "h200", load_devices()["h200"])
    (cell,) = [c for c in plan.cells if c.cell_id.endswith("taehv/h200/official/decoded")]
    job = cell.trials[0].job
    with_frames, without = (
        estimate(one, 1_418_996_800, load_devices()["h200"]).seconds
        for one in (job, replace(job, decoder="none"))
    )

    frames_gb = 13 * 12 * 480 * 832 * 3 * 2 / 1e9
    assert with_frames - without == pytest.approx(FRAMES_S_PER_GB * frames_gb)


def test_run_says_how_long_it_should_take(capsys):
    """Before it starts, for the cells it was asked for; beside each verdict, how long it took."""
    name, suite = load_suite("quick")
    recipes, device = load_recipes(), load_devices()["h200"]
    plan = plan_suite(name, suite, recipes, "h200", device)
    (cell,) = plan.cells
    seconds = need_of(cell, recipes, device).seconds
    console = Console(width=120)
    watcher = PlainWatcher(console)
    watcher.planned(replace(plan, estimated_s={cell.cell_id: seconds}))
    watcher.trial_started(cell.trials[0])
    watcher.judged(pair_row(cell_id=cell.cell_id))

    said = capsys.readouterr().out
    assert f"1 cell, 3 trials on h200, about {format_duration(seconds)} by the plan" in said
    assert f"took 0 s here; the plan: {format_duration(seconds)}" in said


def test_cells_of_one_command_are_told_apart_by_their_sides():
    """What a side changes is in its job and not in its command; reproduce names it the same."""
    cells = planned("--suite", "per-step", "--gpu", "h200")
    text = fdbench("plan", "--suite", "per-step", "--gpu", "h200").out.split("\n\n")
    shown = {lines[0]: lines[1:] for block in text if (lines := block.splitlines())}
    start = "self-forcing-wan2.1-t2v-1.3b-taehv/h200"
    command = "flashdreams-run self-forcing-wan2.1-t2v-1.3b-taehv --job job.json"
    compiled = "flashdreams{cuda_graph=true,compile=true}"

    assert shown[f"{start}/fastvideo/af2ee9c"][:2] == [
        f"  FlashDreams  flashdreams{{cuda_graph=true}}: {command}",
        "  baseline     fastvideo_af2ee9c: python adapter.py job.json",
    ]
    assert f"  FlashDreams  {compiled}: {command}" in shown[f"{start}/official/compiled"]
    assert cells[f"{start}/official/compiled"]["candidate"] == compiled
    assert cells[f"{start}/fastvideo/af2ee9c"]["reference"] == "fastvideo_af2ee9c"


def test_doctor_names_what_is_here():
    """Every topic has one answer, and without a GPU it says what can run."""
    done = fdbench("doctor", "--suite", "smoke", "--json")
    answer = json.loads(done.out)
    topics = {finding["topic"]: finding for finding in answer["machine"]}

    assert set(topics) >= {"python", "processor", "gpu", "engine", "environments", "disk"}
    assert all(finding["text"] for finding in answer["machine"])
    facts = {topic: finding["facts"] for topic, finding in topics.items()}
    assert facts["processor"]["cores"] >= 1
    assert facts["disk"]["free_gb"] > 0 < facts["disk"]["needed_gb"]
    environments = facts["environments"]
    needed = ["diffusers", "fastvideo", "flashdreams"]
    assert sorted(environments["built"] + environments["missing"]) == needed
    assert facts["hugging face"]["has_token"] in (True, False)
    assert [cell["cannot_run"] for cell in answer["cells"]] == ["", ""]
    assert done.code in (0, 5)


H200 = load_devices()["h200"].nvml[0]


def diagnosed(*words):
    """Exit code, findings by topic and cells of ``fdbench doctor --json``."""
    done = fdbench("doctor", *words, "--json")
    answer = json.loads(done.out)
    return done.code, {one["topic"]: one for one in answer["machine"]}, answer["cells"]


@pytest.mark.parametrize("words", [(), ("--suite", "quick")], ids=["alone", "with-a-suite"])
def test_doctor_refuses_an_unknown_device(words):
    """A mistyped key is not silently taken for the CPU."""
    done = fdbench("doctor", *words, "--gpu", "h20")

    assert done.code == 2
    assert "unknown device 'h20'; nearest: h200" in done.err


def test_doctor_says_what_run_would(monkeypatch):
    """Without the device no cell can run, and the exit code is that of the run: 5."""
    Nvml().install(monkeypatch)
    code, topics, cells = diagnosed("--suite", "per-step", "--gpu", "h200")
    text = fdbench("doctor", "--suite", "per-step", "--gpu", "h200", "--kernel-time").out

    assert code == 5
    assert topics["device"]["state"] == "bad"
    assert "this machine has no NVIDIA GPU" in topics["device"]["text"]
    assert [cell for cell in cells if not cell["cannot_run"]] == []
    assert ": can run" not in text
    assert diagnosed("--gpu", "h200")[0] == 5


def test_doctor_counts_the_gpus_that_a_cell_needs(monkeypatch):
    """The device is here once, and what needs four of it cannot run."""
    Nvml(Gpu(name=load_devices()["gb200"].nvml[0])).install(monkeypatch)

    assert missing("gb200", 1) == ""
    assert "the plan needs 4 GPUs of --gpu gb200; this machine has 1" in missing("gb200", 4)


@pytest.mark.parametrize(
    ("bit", "text"), [(pynvml.nvmlClocksEventReasonSwPowerCap, ""), *SLOWED.items()]
)
def test_doctor_calls_slowed_what_voids_a_trial(monkeypatch, bit, text):
    """The power cap is how a GPU works under load; the rest is what marks a trial."""
    Nvml(Gpu(name=H200, reasons=bit)).install(monkeypatch)
    gpu = diagnosed("--suite", "quick", "--gpu", "h200")[1]["gpu"]

    assert gpu["state"] == ("bad" if text else "good")
    assert (f"{text}, times will not hold" in gpu["text"]) is bool(text)
    assert gpu["facts"]["is_slowed"] is bool(text)
    assert (gpu["facts"]["index"], gpu["facts"]["name"]) == (0, H200)
