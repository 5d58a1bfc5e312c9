"""Samplers' and schedules' names: read as A1111 reads them, or refused with the right one."""

from importlib import import_module

import pytest

from img2img_shared.errors import Refused
from img2img_shared.params import Params
from img2img_shared.sampler_names import find_scheduler, split_sampler
from img2img_shared.samplers import SAMPLERS, SCHEDULERS, taker, without_effect
from img2img_worker.sampling import runs


@pytest.mark.parametrize(
    ("name", "scheduler", "meant"),
    [
        ("DPM++ 2M Karras", None, ("DPM++ 2M", "Karras")),
        ("DPM++ 2M Karras", "", ("DPM++ 2M", "Karras")),
        ("DPM++ 2M Karras", "Exponential", ("DPM++ 2M", "Exponential")),
        ("LMS Karras", "Automatic", ("LMS", "Automatic")),
        ("DPM++ 2M SDE Heun Karras", None, ("DPM++ 2M SDE Heun", "Karras")),
        ("DPM++ 2M SDE Heun", "AUTOMATIC", ("DPM++ 2M SDE Heun", "Automatic")),
        ("Euler Align Your Steps", None, ("Euler", "Align Your Steps")),
        ("Euler sgm_uniform", None, ("Euler", "SGM Uniform")),
        ("Euler a SGMUniform", None, ("Euler a", "SGM Uniform")),
        ("Euler Karras Uniform", None, ("Euler", "Karras")),
        ("DDIM DDIM", None, ("DDIM", "DDIM")),
        ("DDIM CFG++", "beta", ("DDIM CFG++", "Beta")),
    ],
)
def test_names_are_read_as_a1111_reads_them(name: str, scheduler: str | None, meant: tuple[str, str]) -> None:
    assert split_sampler(name, scheduler) == meant


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("k_euler_a", "'Euler a'"),
        ("euler a", "'Euler a'"),
        ("dpm++ 2m karras", "'DPM++ 2M' with scheduler 'Karras'"),
        ("k_dpmpp_2m_sde Exponential", "'DPM++ 2M SDE' with scheduler 'Exponential'"),
        ("Euler a SGM Uniform", "'Euler a' with scheduler 'SGM Uniform'"),
        ("ddim", "'DDIM'"),
        ("unipc", "'UniPC'"),
        ("DPM++  2M", "'DPM++ 2M'"),
    ],
)
def test_what_a1111_would_take_for_another_sampler_is_refused_with_the_right_name(
    name: str, meant: str
) -> None:
    with pytest.raises(Refused) as refused:
        split_sampler(name)
    assert refused.value.reason == f"use {meant}"


@pytest.mark.parametrize(("name", "meant"), [("KARRAS", "'Karras'"), ("SGMUniform", "'SGM Uniform'")])
def test_what_a1111_would_take_for_automatic_is_refused_with_the_right_name(name: str, meant: str) -> None:
    with pytest.raises(Refused) as refused:
        find_scheduler(name)
    assert refused.value.reason == f"use {meant}"


def test_names_that_nobody_means_are_refused_with_the_list() -> None:
    with pytest.raises(Refused, match=", Restart, DDIM,"):
        split_sampler("Oiler")
    with pytest.raises(Refused, match="Karras, Exponential"):
        find_scheduler("linear")


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_that_is_listed_has_its_function_its_run_and_its_parameters(name: str) -> None:
    sampler = SAMPLERS[name]
    module, function = sampler.function.split(".")
    assert callable(getattr(import_module(f"img2img_worker.sampling.{module}"), function))
    assert callable(getattr(runs, sampler.run))
    assert sampler.options <= set(Params.model_fields)
    assert sampler.schedule("Automatic") in {None, *SCHEDULERS}


@pytest.mark.parametrize("name", sorted(set(SCHEDULERS) - {"Automatic"}))
def test_a_schedule_that_is_listed_has_its_function(name: str) -> None:
    module = import_module("img2img_worker.sampling.schedules")
    assert callable(getattr(module, SCHEDULERS[name].name))


def test_each_parameter_that_may_be_without_effect_has_one_somewhere() -> None:
    for option in without_effect("Euler a", "Automatic") | without_effect("DDIM", "Automatic"):
        with_effect = taker(option)
        assert getattr(Params(**with_effect), option) == Params.model_fields[option].default
