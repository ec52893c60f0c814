"""Checks of the loader that skips random weights; ``check_parts.py`` runs them."""

from torch import Tensor, nn
from torch.nn import init

from runners import loading

FILLERS = [name for name in vars(init) if name.endswith("_") and not name.startswith("_")]


def fillers() -> list[object]:
    """PyTorch's initialisers as they are now."""
    return [getattr(init, name) for name in FILLERS]


def fills() -> bool:
    """Whether a new layer's weights are drawn: what an initialiser leaves is seldom the mark."""
    layer = nn.Linear(4, 4)
    nn.Module.requires_grad_(layer, requires_grad=False)
    layer.weight.copy_(layer.weight * 0 + 7)
    layer.reset_parameters()
    return not bool((layer.weight == 7).all())


def check_nothing_is_drawn_inside_and_all_is_back_after() -> None:
    """Inside the block weights stay as they were allocated; after it they are drawn again."""
    before = fillers()
    assert len(before) > 10
    assert fills()
    with loading.no_random_weights():
        assert not fills()
        tensor = Tensor([7.0])
        assert init.zeros_(tensor) is tensor
        assert init.uniform_(tensor, a=1.0, b=2.0) is tensor
        assert tensor.item() == 7.0
    assert fillers() == before
    assert fills()


def check_initialisers_are_back_after_an_exception() -> None:
    """A module that cannot be built does not leave the next one unfilled."""
    before = fillers()
    try:
        with loading.no_random_weights():
            nn.Linear(-1, 4)
    except RuntimeError:
        assert fillers() == before
        assert fills()
    else:
        raise AssertionError("the exception was swallowed")


def check_blocks_may_be_nested() -> None:
    """The inner block's end does not end the outer one."""
    before = fillers()
    with loading.no_random_weights():
        with loading.no_random_weights():
            assert not fills()
        assert not fills()
    assert fillers() == before
