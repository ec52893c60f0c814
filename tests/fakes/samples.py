"""Valid records to start from; a test changes the one thing it is about."""

from dataclasses import fields, replace

from harness.records import (
    Outcome,
    ParityRow,
    PlannedCell,
    PlannedTrial,
    Role,
    Side,
    StepRow,
    TrialRow,
)
from runners.protocol.wire import PROTOCOL_VERSION, Artifact, Job, Network, Settings

NONCE = "0123456789abcdef"
CELL = "self-forcing/cpu/fastvideo"
CANDIDATE = Side(environment="flashdreams", overrides=())
REFERENCE = Side(environment="fastvideo", overrides=())
FLOOR = Side(environment="flashdreams", overrides=(("dtype", "float32"),))


def job(**changes):
    """A job of three AR steps on a CPU."""
    made = Job(
        protocol=PROTOCOL_VERSION,
        nonce=NONCE,
        slug="self-forcing",
        size="tiny",
        network=Network(dim=256, ffn_dim=512, num_heads=2, num_layers=2),
        weights=Artifact(path="/cache/weights", sha256="aa" * 32),
        noise=Artifact(path="/cache/noise", sha256="bb" * 32),
        text=Artifact(path="/cache/text", sha256="cc" * 32),
        weights_seed=0,
        seed=42,
        ar_steps=3,
        solver="self_forcing",
        denoising_timesteps=(1000, 500),
        denoising_steps=2,
        sigmas=(1.0, 0.8888888888888888),
        timesteps=(1000.0, 888.8888888888889),
        timestep_rounding="none",
        shift=8.0,
        guidance=1.0,
        len_t=3,
        window_t=6,
        sink_t=0,
        latent_height=8,
        latent_width=8,
        dtype="bfloat16",
        attention="sdpa",
        compile=False,
        cuda_graph=False,
        decoder="none",
        device="cpu",
        threads=2,
        capture_steps=(0, 1, 2),
        profile_steps=(),
        telemetry=False,
    )
    return replace(made, **changes)


def settings(**changes):
    """What a side that obeys :func:`job` has in force."""
    asked = job()
    shared = {item.name for item in fields(Settings)} & {item.name for item in fields(Job)}
    made = Settings(
        **{name: getattr(asked, name) for name in shared},
        num_parameters=1000,
        weights_sha256=asked.weights.sha256,
        noise_sha256=asked.noise.sha256,
        text_sha256=asked.text.sha256,
        latent_shape=(3, 16, 8, 8),
        torch="2.13.0",
        cudnn="none",
    )
    return replace(made, **changes)


def trial(role=Role.CANDIDATE, side=CANDIDATE, process=0, **job_changes):
    """A planned trial."""
    return PlannedTrial(
        trial_id=f"{role}.{side}.{process}",
        cell_id=CELL,
        role=role,
        side=side,
        process=process,
        job=job(**job_changes),
    )


def cell():
    """A planned cell: two processes a side and one floor trial."""
    return PlannedCell(
        cell_id=CELL,
        recipe="self-forcing",
        device="cpu",
        baseline="fastvideo",
        candidate=CANDIDATE,
        reference=REFERENCE,
        floor=(CANDIDATE, FLOOR),
        controls=(),
        documented_ar_steps=3,
        limit=2.0,
        limit_origin="a test",
        expected_differences=(),
        trials=(
            trial(),
            trial(Role.REFERENCE, REFERENCE),
            trial(Role.REFERENCE, REFERENCE, 1),
            trial(Role.CANDIDATE, CANDIDATE, 1),
            trial(Role.FLOOR, FLOOR),
        ),
    )


def trial_row(planned=None, **changes):
    """The row of a trial that completed."""
    planned = planned or trial()
    made = TrialRow(
        trial_id=planned.trial_id,
        cell_id=planned.cell_id,
        role=planned.role,
        side=str(planned.side),
        process=planned.process,
        outcome=Outcome.COMPLETED,
        reason="",
        invalid="",
        exit_status=0,
        marks="",
        wall_s=12.5,
        first_step_s=4.0,
        sm_mhz=None,
        power_w=None,
        temperature_c=None,
        energy_j=None,
        ar_steps=planned.job.ar_steps,
        environment_digest="e" * 64,
        code_digest="c" * 64,
        log_sha256="1" * 64,
        settings="{}",
        facts="{}",
    )
    return replace(made, **changes)


def step_row(**changes):
    """One stored AR step."""
    made = StepRow(
        ar=5,
        rank=0,
        stages_ms={"encode": 0.016, "diffuse": 343.706, "finalize": 74.226},
        total_wo_finalize_ms=343.722,
        total_ms=417.948,
        memory_peak_gib=None,
        byte_start=100,
        byte_end=260,
        trial_id="candidate.flashdreams.0",
        cell_id=CELL,
        role=Role.CANDIDATE,
        side="flashdreams",
        process=0,
        phase="filling",
        denoise_ms=(171.0, 172.5),
        clock_total_ms=417.95,
        wall_ms=418.1,
        kernels="",
    )
    return replace(made, **changes)


def parity_row(**changes):
    """Distance of a pair that is as large as its floor, at AR 0."""
    made = ParityRow(
        cell_id=CELL,
        comparison="pair",
        candidate_trial=trial().trial_id,
        reference_trial=trial(Role.REFERENCE, REFERENCE).trial_id,
        ar=0,
        relative_l2=0.01,
        max_abs=0.1,
        cosine=0.999,
        reference_std=0.9,
        candidate_std=0.9,
    )
    return replace(made, **changes)


def parity_rows():
    """Everything that :func:`cell` compares when all is well."""
    floor_trial = trial(Role.FLOOR, FLOOR).trial_id
    rows = []
    for ar in range(job().ar_steps):
        rows += [
            parity_row(ar=ar),
            parity_row(ar=ar, candidate_trial=trial(process=1).trial_id, relative_l2=0.015),
            parity_row(ar=ar, comparison="floor", reference_trial=floor_trial),
        ]
    return rows


def step_line(ar, stages_ms, memory=False):
    """FlashDreams' step line, typed from the format of its 0.1.0 release."""
    stages = " ".join(f"{stage} {ms:.3f} ms" for stage, ms in stages_ms.items())
    total = sum(stages_ms.values())
    line = (
        f"AR {ar} {stages} | total(w/o finalize) {total - stages_ms.get('finalize', 0):.3f} ms "
        f"total {total:.3f} ms"
    )
    if memory:
        line += " | GPU mem alloc 8.449 GiB reserved 8.832 GiB peak 8.898 GiB"
    return line
