"""Two bands all the way: tokenizer, prior by one transformer or one for each, saved, resumed."""

import numpy as np
import pytest
import torch

from ncvq_nb import NCVQ
from ncvq_nb.evaluation.present import figures
from toys import as_dataset, says, sines, tiny

KINDS = {
    "one transformer": dict(width=(4, 8), n_codes=(8, 6)),
    "one for each": dict(
        code_dim=4, prior_dim=(16, 8), prior_depth=(1, 1), prior_heads=(2, 1), prior_dropout=0.1
    ),
    "SSL on the high band": dict(ssl_weight=(0, 1.0)),
}
X, y = sines(24, length=40)


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    return tiny(bands=2, **KINDS[request.param]).fit(X, y)


def test_tokens_stand_band_by_band(model):
    tok, s = model.tokenizer_, model.encode(X)
    assert [tok.spans[0].start, tok.spans[1].stop] == [0, s.shape[1]]
    drawn = model.sample_tokens(50, random_state=0)
    for tokens in (s, drawn):
        for span, codes in zip(tok.spans, tok.codes):
            part = tokens[:, span]
            assert codes.start <= part.min() and part.max() < codes.stop
    assert np.array_equal(model.decode(s), model.reconstruct(X))
    for span, codes in zip(tok.spans, tok.codes[::-1]):  # a code of the other band
        wrong = s.copy()
        wrong[:, span] = codes.start
        with pytest.raises(ValueError, match=f"at the positions {span.start} to {span.stop - 1}, "):
            model.decode(wrong)
    assert model.transform(X).shape[1] == len(model.get_feature_names_out())


def test_the_image_is_that_of_both_bands(model):
    tok, x = model.tokenizer_, torch.from_numpy(X)
    with torch.no_grad():
        u, z = tok.stft(x), [band.vq(g).z_q for band, g in zip(tok.bands, tok.latents(x))]
        low, high = (band.decoder(g) for band, g in zip(tok.bands, z))
        assert low.shape[2] + high.shape[2] == u.shape[2] and low.shape[2] == 1
        parts = [torch.cat([low, 0 * high], 2), torch.cat([0 * low, high], 2)]
        both = sum(tok.stft.inverse(p, tok.length) for p in parts)
    assert torch.allclose(both, tok(x), atol=1e-4)


def test_low_tokens_do_not_depend_on_high_ones(model):
    "The low band is sampled before the high one: its settings alone decide it."
    few, many = (
        model.sample_tokens(6, random_state=0, sampling_steps=(3, k), temperature=(1.0, t))
        for k, t in ((1, 1.0), (4, 0.5))
    )
    low, high = model.tokenizer_.spans
    assert np.array_equal(few[:, low], many[:, low])
    assert not np.array_equal(few[:, high], many[:, high])


def test_gaps_scores_and_frequency_rows(model):
    holes = X.copy()
    holes[:, :, 10:20] = np.nan
    seen = ~np.isnan(holes)
    filled = model.impute(holes, y, random_state=0)
    assert np.array_equal(filled[seen], X[seen]) and np.isfinite(filled).all()
    assert model.impute(X, y, rows=[1, 2], random_state=0).shape == X.shape
    with says("rows must be of the high band"):
        model.impute(X, y, rows=0)
    assert np.isfinite(model.score_samples(X, y)).all()


def test_pictures_show_the_tokens_of_each_band(model):
    found = figures(model, as_dataset((X, y)))
    assert {"tokens_low", "tokens_high", "samples"} <= set(found) and "tokens" not in found


def test_saved_and_resumed(model, tmp_path):
    model.save(tmp_path / "m")
    new = model.sample(4, random_state=1)
    assert np.array_equal(NCVQ.load(tmp_path / "m").sample(4, random_state=1), new)
    settings = {**model.get_params(), "warm_start": False}
    for _ in range(2):  # the second time, from the finished run
        again = NCVQ(**settings).fit(X, y, run_dir=tmp_path / "r")
        assert np.array_equal(again.sample(4, random_state=1), new)


@pytest.mark.parametrize(
    "bad",
    [
        dict(bands=1, width=(4, 8)),
        dict(bands=1, ssl_weight=(1, 2)),
        dict(bands=2, n_codes=(8, 8, 8)),
        dict(bands=2, sampling_steps=(1, 2, 3)),
    ],
    ids=lambda v: list(v)[-1],
)
def test_pairs_of_the_wrong_size_are_refused(bad):
    with says(list(bad)[-1]):
        tiny(**bad).fit(X, y)


def test_the_configuration_of_timevqvae():
    m = NCVQ.timevqvae(24, epochs=(0.1, 0.1), random_state=0).fit(X, y)
    low, high = m.tokenizer_.bands
    assert (low.grid[0], high.grid[0]) == (1, 2)
    assert m.tokenizer_.codebook.shape == (2048, 8)
    assert m.sample(2, random_state=0).shape == (2, 1, 40)
    assert NCVQ.timevqvae(64).epochs == (10_000, 20_000)
