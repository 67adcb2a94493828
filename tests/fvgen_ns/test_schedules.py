"""What counts iterations is a fraction of the run: runs of 600 and of 2000 go through the same, one slower."""

import copy

import pytest
import torch
from nerfstudio.configs.method_configs import all_methods
from nerfstudio.data.scene_box import SceneBox

from fvgen_ns.schedules import follow_iterations

LENGTHS = (600, 2000)


def config_of(iterations, **options):
    config = copy.deepcopy(all_methods["fvgen-splat-cpu"])
    config.max_num_iterations = iterations
    for name, value in options.items():
        setattr(config.pipeline.model, name, value)
    follow_iterations(config)
    return config


def model_of(config, photos):
    return config.pipeline.model.setup(
        scene_box=SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3])),
        num_train_data=photos,
        metadata={"num_photos": photos},
        seed_points=(torch.rand(50, 3), torch.full((50, 3), 128.0)),
    )


def learning_rates(config, iterations):
    """Name -> rate at tenths of the run, in units of the first, as Nerfstudio's own schedulers give it."""
    rates = {}
    for name, part in config.optimizers.items():
        parameter = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.Adam([parameter], lr=1.0)
        if part["scheduler"] is not None:
            lr = part["optimizer"].lr
            scheduler = part["scheduler"].setup().get_scheduler(optimizer=optimizer, lr_init=lr)
            (factor,) = scheduler.lr_lambdas
            rates[name] = [factor(iterations * tenth // 10) for tenth in range(11)]
    return rates


def test_learning_rates_decay_over_the_whole_run():
    short, long = (learning_rates(config_of(iterations), iterations) for iterations in LENGTHS)
    assert set(short) == set(long) == {"means", "photo_colours", "camera_opt"}
    for name, rates in short.items():
        assert long[name] == pytest.approx(rates, rel=1e-6)
        assert rates[0] == pytest.approx(1) and rates[5] > 2 * rates[10]


def test_refinement_harmonics_and_dropout_come_at_the_same_fractions():
    seen = []
    for iterations in LENGTHS:
        model = model_of(config_of(iterations), photos=3)
        strategy = model.strategy
        steps = [strategy.refine_start_iter, strategy.refine_every, strategy.refine_stop_iter]
        steps += [model.config.sh_degree_interval, model.config.dropout_rise]
        seen.append([step / iterations for step in steps])
        assert strategy.reset_every > iterations  # opacities are never reset
    assert seen[0] == pytest.approx([1 / 6, 1 / 12, 1 / 2, 1 / 4, 1])
    assert seen[1] == pytest.approx(seen[0], abs=1 / LENGTHS[1])


@pytest.mark.parametrize("iterations", [400, 600, 1600, 2000, 7000])
def test_sizes_can_grow_equally_far_in_short_runs_and_no_slower_than_usual_in_long_ones(iterations):
    factor = model_of(config_of(iterations), photos=5).size_growth
    assert factor == pytest.approx(max(1600 / iterations, 1))


def test_what_the_user_sets_stays_and_doing_it_twice_changes_nothing():
    config = config_of(2000, stop_split_at=450)
    assert config.pipeline.model.stop_split_at == 450 and config.pipeline.model.warmup_length == 333
    again = copy.deepcopy(config)
    follow_iterations(again)
    assert vars(again.pipeline.model) == vars(config.pipeline.model)
    assert config_of(600).pipeline.model == all_methods["fvgen-splat-cpu"].pipeline.model
