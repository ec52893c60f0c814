"""What telemetry says about a trial: figures under load, and what disturbed its times.

What a sample holds needs NVML and a GPU, and is not tested here. That sampling goes on, and who may
use a GPU, is decided here, so that is tested, of invented GPUs and real processes.
"""

import itertools
import json
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pynvml
import pytest

from harness.errors import EnvironmentFault, IntegrityFault
from harness.judging.cell_verdict import is_excused
from harness.machine import telemetry
from harness.machine.telemetry import FOREIGN, SLOWED, read_samples, require_idle, summarize, unread
from harness.records import REPEATED, Outcome, TelemetryRow
from harness.trials.launch import _classify, _End
from tests.fakes import samples
from tests.fakes.nvml import Gpu, Nvml

pytestmark = pytest.mark.unit

IDS = {"trial_id": "a.candidate.flashdreams.0", "cell_id": "a/h200/official"}
SAMPLE = TelemetryRow(
    **IDS,
    at_s=5.0,
    gpu="GPU-1",
    sm_mhz=1980,
    memory_mhz=3201,
    power_w=600.5,
    temperature_c=55,
    busy_percent=100,
    reasons=0,
    energy_j=1000.0,
    foreign="",
)
NOT_VOID = (
    pynvml.nvmlClocksEventReasonGpuIdle
    | pynvml.nvmlClocksEventReasonApplicationsClocksSetting
    | pynvml.nvmlClocksEventReasonSwPowerCap
)


def sample(at_s=5.0, **changes):
    """One reading under load."""
    return replace(SAMPLE, at_s=at_s, **changes)


def line(**changes):
    """A reading as the file has it."""
    values = {k: v for k, v in vars(SAMPLE).items() if k not in IDS}
    return json.dumps(values | changes) + "\n"


@pytest.fixture
def read(tmp_path):
    """Reads a telemetry file of this content."""

    def samples(content):
        path = tmp_path / "telemetry.jsonl"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_samples(path, *IDS.values())

    return samples


def test_figures_are_medians_under_load_after_the_first_step():
    """Neither an idle GPU nor compiling before the first AR step is what the GPU ran at."""
    samples = [
        sample(1.0, sm_mhz=345, busy_percent=0),
        sample(2.0, sm_mhz=1200, power_w=200.0),  # busy before the first AR step ended
        sample(4.0, sm_mhz=1900, power_w=500.0, temperature_c=50),
        sample(5.0, sm_mhz=1950, power_w=600.0, temperature_c=60),
        sample(6.0, sm_mhz=1980, power_w=650.0, temperature_c=61),
        sample(7.0, sm_mhz=345, busy_percent=49),
    ]
    row = summarize(samples, first_step_s=3.0)

    assert (row["sm_mhz"], row["power_w"], row["temperature_c"]) == (1950, 600.0, 60)
    assert row["marks"] == ""


@pytest.mark.parametrize("first_step_s", [9.0, None], ids=["single-step", "no-step"])
def test_job_without_samples_after_its_first_step_takes_the_busy_ones(first_step_s):
    """A job of one AR step ends with it, so what was busy before counts."""
    samples = [sample(1.0, sm_mhz=345, busy_percent=10), sample(2.0, sm_mhz=1755)]

    assert summarize(samples, first_step_s)["sm_mhz"] == 1755


@pytest.mark.parametrize("samples", [[], [sample(busy_percent=49)]], ids=["none", "idle"])
def test_no_load_has_no_figures(samples):
    """Nothing under load gives None, never a zero or an idle clock."""
    figures = {"sm_mhz": None, "power_w": None, "temperature_c": None, "energy_j": None}

    assert summarize(samples, 1.0) == figures | {"marks": "", "gpu_memory_peak_gib": None}


def test_energy_is_each_gpus_own_and_summed():
    """Counters of two GPUs start anywhere; each one's rise counts, idle samples included."""
    first = [sample(n, energy_j=1000.0 + 10 * n, busy_percent=50 * n) for n in range(3)]
    second = [sample(n, gpu="GPU-2", energy_j=9e6 + 7 * n) for n in range(3)]

    assert summarize([*first, *second], 0.0)["energy_j"] == pytest.approx(20 + 14)
    assert summarize(first, 0.0)["energy_j"] == pytest.approx(20)


def test_most_memory_of_any_gpu_and_sample_counts():
    """Idle samples too: a checkpoint is largest while it is loaded; older samples have none."""
    found = [sample(memory_gib=3.0), sample(memory_gib=7.5, gpu="GPU-2", busy_percent=0), sample()]

    assert summarize(found, 0.0)["gpu_memory_peak_gib"] == 7.5
    assert summarize([sample()], 0.0)["gpu_memory_peak_gib"] is None


@pytest.mark.parametrize(("bit", "text"), SLOWED.items())
def test_slowed_gpu_is_marked(bit, text):
    """Each reason that voids times is named, with how often it held."""
    samples = [sample(1.0), sample(2.0, reasons=bit | NOT_VOID), sample(3.0)]

    assert summarize(samples, 0.0)["marks"] == f"{text} in 1 of 3 samples"


def test_several_reasons_are_all_named():
    """A hot GPU that a power brake slows is both."""
    marks = summarize([sample(reasons=sum(SLOWED))], 0.0)["marks"]

    assert marks.split("; ") == [f"{text} in 1 of 1 samples" for text in SLOWED.values()]


def test_power_cap_and_idle_are_no_marks():
    """Full load meets the power cap, and idle clocks are low: neither voids a time."""
    assert summarize([sample(reasons=NOT_VOID)], 0.0)["marks"] == ""


def test_reason_outside_the_timed_steps_is_no_mark():
    """What slowed the GPU while the model was compiled touched no time that counts."""
    hot = pynvml.nvmlClocksThrottleReasonHwThermalSlowdown
    samples = [sample(1.0, reasons=hot), sample(4.0, reasons=hot, busy_percent=0), sample(5.0)]

    assert summarize(samples, 3.0)["marks"] == ""


def test_foreign_process_is_marked_whenever_it_was_there():
    """Another process may have slowed anything, so load and time do not matter; each is once."""
    samples = [
        sample(1.0, foreign="77", busy_percent=0),
        sample(2.0, foreign="77"),
        sample(5.0, foreign="12, 77"),
        sample(6.0),
    ]

    assert summarize(samples, 3.0)["marks"] == "process 12, 77 and 77 used the GPU meanwhile"


@pytest.mark.parametrize(
    ("at_s", "wall_s", "mark"),
    [
        pytest.param([], 30.0, "the GPU was not read once", id="never"),
        pytest.param([0.2, 2.0, 3.9], 5.8, "", id="all-along"),
        pytest.param([0.2, 0.4], 30.0, "the GPU was not read for 30 s", id="stopped"),
        pytest.param([9.0, 10.0], 11.0, "the GPU was not read for 9 s", id="began-late"),
        pytest.param([1.0, 2.0, 7.0], 8.0, "the GPU was not read for 5 s", id="hole"),
    ],
)
def test_time_in_which_nobody_looked_is_a_mark(at_s, wall_s, mark):
    """Nobody can say that nothing disturbed a trial while its GPU was not read."""
    assert unread([sample(at) for at in at_s], wall_s) == mark


def test_sampling_outlives_a_reading_that_fails(tmp_path, monkeypatch):
    """NVML answers with an error now and then; the samples after it are there."""
    answers = itertools.count()

    def read_now(_handle, at_s):
        if next(answers) == 1:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN)
        return json.loads(line(at_s=at_s))

    Nvml(Gpu()).install(monkeypatch)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(telemetry, "PERIOD_S", 0.01)
    monkeypatch.setattr(telemetry, "_read", read_now)
    with telemetry.watching(tmp_path, 1):
        until = time.monotonic() + 10
        while next(answers) < 20 and time.monotonic() < until:
            time.sleep(0.05)

    assert len(read_samples(tmp_path / "telemetry.jsonl", *IDS.values())) > 2


def test_energy_counter_is_that_of_the_trials_gpus(tmp_path, monkeypatch):
    """Summed over the GPUs that the trial sees; none while NVML does not answer."""
    first, second = Gpu(millijoules=1500), Gpu("GPU-1", millijoules=700)
    nvml = Nvml(first, second, Gpu("GPU-2", millijoules=10**9)).install(monkeypatch)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def lost(_gpu):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)

    with telemetry.watching(tmp_path, 2) as counter:
        assert counter() == pytest.approx(2.2)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", lost)
        assert counter() is None
    assert nvml.open == 0


def test_gpu_without_a_memory_figure_is_sampled(monkeypatch):
    """One that shares the host's memory answers that it does not know."""

    def unknown(_gpu):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    Nvml(Gpu(used_bytes=3 << 30, millijoules=5000)).install(monkeypatch)
    (_, gpu), *_ = telemetry.gpu_handles(1)
    assert telemetry._read(gpu, 1.0)["memory_gib"] == 3.0

    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", unknown)
    read = telemetry._read(gpu, 1.0)
    assert (read["memory_gib"], read["energy_j"]) == (None, 5.0)


def test_samples_are_read_as_written(read):
    """Every line is a sample of its trial; an integer where a float is meant is one."""
    assert read(line() + line(at_s=6)) == [SAMPLE, sample(6.0)]


def test_unfinished_last_line_is_left_out(read):
    """A sampler that was killed leaves half a line, which says nothing."""
    assert read(line() + line()[:30]) == [SAMPLE]
    assert read(line()[:-1]) == []
    assert read("") == []


def test_no_file_has_no_samples(tmp_path):
    """A trial on a CPU has none."""
    assert read_samples(tmp_path / "telemetry.jsonl", *IDS.values()) == []


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param("\n", id="empty"),
        pytest.param("not json\n", id="no-json"),
        pytest.param("null\n", id="null"),
        pytest.param("[1]\n", id="list"),
        pytest.param("{}\n", id="nothing-in-it"),
        pytest.param("[" * 100_000 + "\n", id="deep"),
        pytest.param(line(surplus=1), id="surplus-field"),
        pytest.param(line(trial_id="another"), id="names-its-trial"),
        pytest.param(line(busy_percent="100"), id="text-for-a-number"),
        pytest.param(line(reasons=None), id="null-for-a-number"),
        pytest.param(line(energy_j=float("nan")), id="nan"),
        pytest.param(line(power_w=float("inf")), id="infinity"),
        pytest.param(line(foreign=7), id="number-for-a-text"),
        pytest.param(b"\xff\xfe\n", id="binary"),
    ],
)
def test_line_that_is_no_sample_is_a_fault(read, bad):
    """A damaged file is named; it is neither a shorter list nor a traceback."""
    before = line().encode()
    with pytest.raises(IntegrityFault, match=r"telemetry\.jsonl holds a line that is no sample"):
        read(before + (bad if isinstance(bad, bytes) else bad.encode()) + before)


def test_real_trial_without_memory_names_what_it_needed_and_who_was_there():
    """As an H200 left it: the reason ends with a sentence, and the mark excuses the trial."""
    folder = Path(__file__).parent / "golden_trials" / "h200_out_of_memory"
    outcome, reason = _classify(_End(status=1), samples.job(), folder)
    read = read_samples(folder / "telemetry.jsonl", *IDS.values())
    marks = summarize(read, None)["marks"]

    assert outcome == Outcome.OOM
    assert "Tried to allocate 20.00 MiB." in reason
    assert reason.endswith("Process 7186 has 137.79 GiB memory in use")
    assert marks == f"process 7186 {FOREIGN}"
    row = samples.trial_row(outcome=outcome, reason=reason, marks=marks)
    assert is_excused(row)
    assert not is_excused(replace(row, marks="hardware slowdown in 2 of 4 samples"))
    assert not is_excused(replace(row, trial_id=row.trial_id + REPEATED))


SOMEBODY = 1
"""A process that is always there, and none of this one's."""


@pytest.fixture
def gone():
    """Id of a process that has just ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.fixture
def child():
    """Id of a process that this one started."""
    with subprocess.Popen(["sleep", "30"]) as process:
        yield process.pid
        process.kill()


def test_gpu_of_somebody_else_is_refused(monkeypatch):
    """Which GPU, which process, how much of it, and what to type instead."""
    nvml = Nvml(Gpu(), Gpu("GPU-1", processes=(SOMEBODY,), used_bytes=3 << 30))
    nvml.install(monkeypatch)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    with pytest.raises(EnvironmentFault) as caught:
        require_idle(2)
    assert f"GPU 1 is in use by process {SOMEBODY} (3.0 GiB)" in str(caught.value)
    assert "CUDA_VISIBLE_DEVICES=INDEX fdbench run" in str(caught.value)
    assert nvml.open == 0


def test_gpu_that_no_trial_uses_may_be_used(monkeypatch):
    """Neither one beyond the number that is asked for, nor one that is hidden from the trials."""
    Nvml(Gpu(processes=(SOMEBODY,)), Gpu("GPU-1")).install(monkeypatch)

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    require_idle(1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1,GPU-0")
    require_idle(1)
    with pytest.raises(EnvironmentFault, match="GPU 1 is in use"):
        require_idle(2)


def test_own_processes_and_those_that_ended_are_nobody_else(monkeypatch, gone, child):
    """A driver lists what has just ended for a moment; what this process started is its own."""
    nvml = Nvml(Gpu(processes=(os.getpid(), child, gone), used_bytes=1 << 30)).install(monkeypatch)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    require_idle(1)
    assert nvml.open == 0
