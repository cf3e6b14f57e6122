"""What the loop may ask of an objective, and what the two objectives answer."""

import pytest
import torch
from numpy.testing import assert_allclose
from toys import Line, says, walks

from ncvq_nb.engine.objective import Losses, Objective
from ncvq_nb.maskgit import MaskGIT, MaskGITLoss
from ncvq_nb.tokenizer import Tokenizer, TokenizerLoss
from ncvq_nb.training import TrainingSettings, train


def stage_1(ssl):
    tok = Tokenizer(2, 64, dim=8, n_res_blocks=1, n_codes=8)
    return TokenizerLoss(tok, ssl=ssl, augment="warp", projector_dim=16)


def stage_2():
    return MaskGITLoss(MaskGIT(10, 8, 3, dim=16, depth=1))


def batch(objective):
    if isinstance(objective, TokenizerLoss):
        return (torch.from_numpy(walks(6)[0]),)
    gen = torch.Generator().manual_seed(0)
    return torch.randint(8, (6, 10), generator=gen), torch.randint(3, (6,), generator=gen)


@pytest.mark.parametrize(
    "make",
    [
        lambda: stage_1(None),
        lambda: stage_1("barlow"),
        lambda: stage_1("vicreg"),
        lambda: stage_1("vibcreg"),
        stage_2,
    ],
    ids=["naive", "barlow", "vicreg", "vibcreg", "prior"],
)
@pytest.mark.parametrize("training", [True, False])
def test_terms_sum_to_the_loss_and_diagnostics_are_detached(make, training):
    objective = make().train(training)
    losses = objective(*batch(objective), generator=torch.Generator().manual_seed(0))
    assert losses.loss.shape == () and losses.loss.requires_grad
    if losses.terms:
        total = sum(v.item() for v in losses.terms.values())
        assert_allclose(total, losses.loss.item(), rtol=1e-5)
    for v in losses.diagnostics.values():
        assert v.shape == () and not v.requires_grad
    if getattr(objective, "head", None) is not None:
        assert set(objective.limits) == set(losses.diagnostics) == {"perplexity", "projection_std"}
    assert not set(losses.terms) & set(losses.diagnostics)
    parts = {id(m) for m in objective.modules()}
    assert all(id(m) in parts for m in objective.by_series)


def test_losses_without_their_graph():
    w = torch.ones((), requires_grad=True)
    losses = Losses(3 * w, dict(fit=2 * w, norm=w), dict(health=torch.tensor(0.5)))
    plain = losses.detached()
    assert not any(v.requires_grad for v in plain.named().values())
    assert {k: float(v) for k, v in plain.named().items()} == dict(loss=3, fit=2, norm=1)
    assert plain.diagnostics == losses.diagnostics


def test_a_loss_alone_is_enough():
    data = torch.ones(8, 4), torch.zeros(8, 1)
    history = train(Line(), data, TrainingSettings(steps=20, lr=0.1))
    assert set(history) == {"step", "epoch", "lr", "seconds", "loss", "grad_norm"}
    assert history["loss"][-1] < history["loss"][0]


def test_an_objective_without_a_forward_says_so():
    with says("Objective has no forward", kind=NotImplementedError):
        Objective()(torch.zeros(2))
    assert not Objective().limits and not Objective().by_series


def test_nothing_is_shared_between_losses():
    with pytest.raises(TypeError):
        Losses(torch.zeros(())).terms["more"] = 1
