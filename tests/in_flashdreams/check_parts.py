"""Checks of the runners' parts that need torch and flashdreams, run in that environment."""

import torch

from runners import cpu

# isort: split

from flashdreams.infra.config import derive_config

from runners import exact_timesteps, self_forcing, wan21


def check_rope_is_a_rotation() -> None:
    """Interleaved RoPE is multiplication by exp(i angle), in place, whatever the layout's twin."""
    torch.manual_seed(0)
    x_BSHD = torch.randn(1, 5, 2, 8, dtype=torch.float64)
    angles = torch.randn(5, 4, dtype=torch.float32)
    full = angles.repeat_interleave(2, dim=-1).reshape(5, 1, 1, 8)
    wanted = torch.view_as_complex(x_BSHD.reshape(1, 5, 2, 4, 2).contiguous()) * torch.polar(
        torch.ones(5, 4), angles
    ).reshape(1, 5, 1, 4)

    rotated = cpu.apply_rotary_pos_emb(x_BSHD, full, interleaved=True)

    assert rotated is x_BSHD
    found = torch.view_as_complex(rotated.reshape(1, 5, 2, 4, 2))
    assert torch.allclose(found, wanted.to(found.dtype), atol=1e-6)


def check_rope_halves_agree_with_pairs() -> None:
    """The half-split layout gives what the interleaved one gives, permuted, and copies if asked."""
    torch.manual_seed(1)
    x = torch.randn(1, 3, 1, 6)
    angles = torch.randn(3, 3)
    paired = x.reshape(1, 3, 1, 2, 3).transpose(-1, -2).reshape(1, 3, 1, 6)
    interleaved = angles.repeat_interleave(2, dim=-1).reshape(3, 1, 1, 6)
    halves = torch.cat((angles, angles), dim=-1).reshape(3, 1, 1, 6)

    split = cpu.apply_rotary_pos_emb(x, halves, interleaved=False, inplace=False)
    pairs = cpu.apply_rotary_pos_emb(paired, interleaved, interleaved=True, inplace=False)

    assert split.data_ptr() != x.data_ptr()
    back = pairs.reshape(1, 3, 1, 3, 2).transpose(-1, -2).reshape(1, 3, 1, 6)
    assert torch.allclose(split, back, atol=1e-6)


def check_attention_returns_cudnn_shapes() -> None:
    """Log-sum-exp comes back as [B, H, S, 1] and belongs to the output."""
    query, key, value = torch.randn(3, 1, 2, 4, 8)
    out, lse = cpu.scaled_dot_product_attention(query, key, value, return_lse=True)
    scores = query @ key.transpose(-1, -2) / 8**0.5
    assert torch.allclose(out, scores.softmax(-1) @ value, atol=1e-5)
    assert torch.allclose(lse, scores.logsumexp(-1, keepdim=True), atol=1e-5)


def check_exact_timesteps_reach_the_network() -> None:
    """In bfloat16 the library hands 888 and 728 to the network; mended it hands over the table."""
    config = self_forcing.WAN_VAE.pipeline.diffusion_model
    mended = derive_config(config, **exact_timesteps.exact_targets(config))
    noise = torch.zeros(4, 4, dtype=torch.bfloat16)
    told = {}
    for name, scheduler in (("shipped", config.scheduler), ("exact", mended.scheduler)):
        seen = told.setdefault(name, [])

        def predict(noisy: torch.Tensor, timestep: torch.Tensor, seen: list = seen) -> torch.Tensor:
            seen.append(float(timestep))
            return noisy

        built = scheduler.setup()
        built.sample(noise, predict, torch.Generator().manual_seed(0))
        assert exact_timesteps.rounding_in_force(built) == (
            "none" if name == "exact" else "as_shipped"
        )
    assert told["shipped"] == [1000.0, 960.0, 888.0, 728.0]
    assert [round(t, 3) for t in told["exact"]] == [1000.0, 960.0, 888.889, 727.273]


def check_unwrap_takes_averaged_weights_and_strips_wrappers() -> None:
    """Training checkpoints come wrapped twice; the averaged generator wins."""
    wanted, other = torch.ones(1), torch.zeros(1)
    for checkpoint in (
        {
            "generator_ema": {"model._fsdp_wrapped_module.a": wanted},
            "generator": {"model.a": other},
        },
        {"generator": {"model.a": wanted}},
        {"net.a": wanted},
    ):
        assert self_forcing.unwrap_checkpoint(checkpoint)["a"] is wanted


def check_published_configurations() -> None:
    """The slugs carry the published geometry."""
    model = self_forcing.TAEHV.pipeline.diffusion_model
    assert (model.seed, model.scheduler.shift) == (42, 8.0)
    assert model.scheduler.denoising_timesteps == [1000, 750, 500, 250]
    transformer = model.transformer
    assert (transformer.len_t, transformer.window_size_t, transformer.sink_size_t) == (3, 21, 0)
    assert (transformer.compile_network, transformer.use_cuda_graph) == (True, True)
    assert transformer.network.num_layers == 30
    assert type(self_forcing.TAEHV.pipeline.decoder).__name__ == "TeahvVAEDecoderConfig"
    sink = self_forcing.SINK.pipeline.diffusion_model
    assert (sink.seed, sink.transformer.window_size_t, sink.transformer.sink_size_t) == (0, 7, 5)
    assert not sink.transformer.network.apply_rope_before_kvcache
    assert self_forcing.WAN_VAE.pipeline.diffusion_model.transformer.window_size_t == 21
    wan = wan21.T2V.pipeline.diffusion_model
    assert (wan.transformer.guidance_scale, wan.scheduler.num_inference_steps) == (6.0, 50)
    assert wan.transformer.len_t == 21


if __name__ == "__main__":
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            check()
            print(f"{name}: ok")
