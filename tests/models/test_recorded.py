"""Recorded calls: what is replayed sees new inputs in old memory. The recorder here replays by running again."""

import torch

from fvgen.models.attention import ContextTokens
from fvgen.models.recorded import Recorded


def test_a_recording_is_made_once_per_shape_and_sees_new_values():
    recordings = []

    def recorder(run):
        output = run().clone()
        recordings.append(run)
        return lambda: output.copy_(run()), output

    def function(x, context, nothing):
        assert nothing is None and isinstance(context, ContextTokens)
        return x + context.text.sum() + context.projected[0][1].sum()

    recorded = Recorded(function, recorder)
    for length in (3, 3, 5, 3):
        x, text, value = torch.rand(length), torch.rand(2), torch.rand(2)
        context = ContextTokens(text, None, ((torch.rand(1), value),))
        result = recorded(x, context, None)
        kept = result.clone()
        torch.testing.assert_close(result, x + text.sum() + value.sum())
        recorded(x + 1, context, None)
        assert torch.equal(result, kept)  # not the memory that is replayed into
    assert len(recordings) == 2
