"""What the error of each matrix contributes to the divergence of a rounded model."""

import pytest
import torch

from parakit.compression.quantization.config import QuantizeConfig
from parakit.compression.quantization.contributions import measure_contributions
from parakit.compression.quantization.measurement import OriginalOutputs
from parakit.compression.quantization.methods import round_matrices
from parakit.compression.quantization.plan import plan_quantization
from tests.compression.quantization.test_compression_quantization_methods import tiny, windows


def rounded(kind, bits=4):
    """A model after GPTQ, the original's outputs and weights, and the windows."""
    model, tokens = tiny(**kind), windows(32)
    config = QuantizeConfig.parse({"bits": bits, "method": "gptq", "calibration": ("x",)})
    plan = plan_quantization(model, config)
    outputs = OriginalOutputs(model, tokens)
    originals = {name: model.get_parameter(f"{name}.weight").detach().clone() for name in plan.schemes}
    round_matrices(model, plan.schemes, config, tokens, lambda name: None)
    return model, outputs, originals, tokens


@pytest.mark.parametrize("kind", [{}, {"tie_embeddings": False, "logit_soft_cap": 9.0, "logit_scale": 0.5}])
def test_contributions_add_up_to_the_divergence(kind):
    model, outputs, originals, _ = rounded(kind)
    found = measure_contributions(model, outputs, originals)
    assert set(found) == set(originals)
    assert sum(found.values()) == pytest.approx(outputs.compare(model).kl, rel=0.1)


def test_a_contribution_is_half_the_slope_of_the_divergence_along_the_error():
    model, outputs, originals, tokens = rounded({})
    found = measure_contributions(model, outputs, originals)
    with torch.no_grad():
        p = tiny().double()(tokens).log_softmax(-1)
        exact = {name: value.clone() for name, value in model.double().state_dict().items()}

        def kl(name, share):
            model.load_state_dict(exact)
            weight = model.get_parameter(f"{name}.weight")
            weight.add_(weight - originals[name].double(), alpha=share)
            return float((p.exp() * (p - model(tokens).log_softmax(-1))).sum(-1).mean())

        for name in ("trunk.token_embedding", "trunk.blocks.1.feed_forward.down"):
            slope = (kl(name, 1e-3) - kl(name, -1e-3)) / 2e-3
            assert found[name] == pytest.approx(slope / 2, rel=1e-3, abs=1e-9)
