

def test_what_is_known_in_closed_form_is_said_where_it_was_kept():
    plainly = {"rom": {"relative_l2": 0.02}, "baselines": {"persistence": {"relative_l2": 0.5}}}
    pod = {"compression": {"kept": "pod", "error": 0.08, "pod_error": 0.03}}
    linear = {"dynamics": {"kept": "linear", "scores": {"gru": {"crps": 0.2}, "linear": {"crps": 0.1}}}}
    network = {"compression": {**pod["compression"], "kept": "network"}, "dynamics": {"kept": "gru", "scores": {}}}
    said = " ".join(verdict({**plainly, "kept": {**pod, **linear}}))
    assert "POD compresses" in said and "3 %" in said and "8 %" in said  # noqa: PT018
    assert "dynamics is linear" in said and "10 %" in said and "20 %" in said  # noqa: PT018
    assert verdict({**plainly, "kept": network}) == verdict(plainly)
    assert "dynamics" not in " ".join(verdict({**plainly, "kept": pod}))
