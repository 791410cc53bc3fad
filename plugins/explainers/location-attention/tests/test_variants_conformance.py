from typing import ClassVar

from cvx_core.testing.conformance import ExplainerConformance

FIXED = {
    "test_the_map_lies_on_what_the_prediction_reads": "its target is its own position, wherever "
    "the prediction comes from"
}


class TestEnergy(ExplainerConformance):
    component = "energy"
    parameters: ClassVar = {"power": 4}


class TestEigenCAM(ExplainerConformance):
    component = "eigen-cam"


class TestAttentionRollout(ExplainerConformance):
    component = "attention-rollout"
    networks = ("tokens",)


class TestClassTokenAttention(ExplainerConformance):
    component = "class-token-attention"
    networks = ("tokens",)


class TestReads(ExplainerConformance):
    component = "reads"
    parameters: ClassVar = {"query": (9, 9)}
    expected_failures = FIXED


class TestAffects(ExplainerConformance):
    component = "affects"
    parameters: ClassVar = {"query": (9, 9)}


class TestEffectiveReceptiveField(ExplainerConformance):
    component = "effective-receptive-field"
    expected_failures = FIXED


class TestOcclusion(ExplainerConformance):
    component = "occlusion"
    parameters: ClassVar = {"window": 8, "stride": 4}


class TestRISE(ExplainerConformance):
    component = "rise"
    parameters: ClassVar = {"masks": 100}
