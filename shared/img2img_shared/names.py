"""AUTOMATIC1111's names of samplers and schedules, their aliases, and what each sampler takes.

Here, not in the worker, because the producer validates names without importing torch.
"""

from dataclasses import dataclass

from img2img_shared.errors import Refused

SCHEDULERS: tuple[str, ...] = (
    "Automatic",
    "Uniform",
    "Karras",
    "Exponential",
    "Polyexponential",
    "SGM Uniform",
    "Simple",
    "Normal",
    "DDIM",
    "Beta",
    "Align Your Steps",
    "KL Optimal",
)

CHURN = frozenset({"s_churn", "s_tmin", "s_tmax", "s_noise"})


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """What a producer must know of a sampler to validate a job."""

    #: schedule that "Automatic" stands for
    scheduler: str = "Uniform"
    #: one schedule step is dropped before the last (A1111's ``discard_next_to_last_sigma``)
    drops_penultimate: bool = False
    #: names of the optional parameters that change its result
    options: frozenset[str] = frozenset()
    #: A1111's other names for it, in lower case
    aliases: tuple[str, ...] = ()


ETA_NOISE = frozenset({"eta", "s_noise"})

#: DDIM and UniPC bring timesteps of their own: as in A1111, they run on them whatever the schedule's name.
SAMPLERS: dict[str, Sampler] = {
    "Euler": Sampler(options=CHURN, aliases=("k_euler",)),
    "Euler a": Sampler(options=ETA_NOISE, aliases=("k_euler_a", "k_euler_ancestral")),
    "LMS": Sampler(aliases=("k_lms",)),
    "Heun": Sampler(options=CHURN, aliases=("k_heun",)),
    "DDIM": Sampler(options=frozenset({"eta"}), aliases=("ddim",)),
    "UniPC": Sampler(aliases=("unipc",)),
    "DPM++ 2M": Sampler(scheduler="Karras", aliases=("k_dpmpp_2m",)),
    "DPM++ SDE": Sampler(scheduler="Karras", options=ETA_NOISE, aliases=("k_dpmpp_sde",)),
    "DPM++ 2S a": Sampler(scheduler="Karras", options=ETA_NOISE, aliases=("k_dpmpp_2s_a",)),
    "DPM++ 2M SDE": Sampler(scheduler="Exponential", options=ETA_NOISE, aliases=("k_dpmpp_2m_sde",)),
    "DPM++ 2M SDE Heun": Sampler(
        scheduler="Exponential", options=ETA_NOISE, aliases=("k_dpmpp_2m_sde_heun",)
    ),
    "DPM++ 3M SDE": Sampler(
        scheduler="Exponential", drops_penultimate=True, options=ETA_NOISE, aliases=("k_dpmpp_3m_sde",)
    ),
    "DPM2": Sampler(scheduler="Karras", drops_penultimate=True, options=CHURN, aliases=("k_dpm_2",)),
    "DPM2 a": Sampler(scheduler="Karras", drops_penultimate=True, options=ETA_NOISE, aliases=("k_dpm_2_a",)),
    "LCM": Sampler(aliases=("k_lcm",)),
    "Restart": Sampler(scheduler="Karras", aliases=("restart",)),
}


def split_sampler(name: str, scheduler: str) -> tuple[str, str]:
    """The canonical (sampler, scheduler) that a request means.

    "DPM++ 2M Karras" is split as A1111 splits it; a schedule named on its own wins over a suffix.

    Raises:
        Refused: for an unknown name, with the list of names.
    """
    sampler, suffix = _split_name(name)
    wanted = find_scheduler(scheduler)
    if wanted == "Automatic":
        wanted = suffix
    return sampler, wanted


def _split_name(name: str) -> tuple[str, str]:
    """(sampler, schedule that its name ends in, or "Automatic")."""
    wanted = " ".join(name.lower().split())
    for suffix in ("", *SCHEDULERS):
        for known, sampler in SAMPLERS.items():
            if wanted in (f"{each} {suffix}".lower().strip() for each in (known, *sampler.aliases)):
                return known, suffix or "Automatic"
    raise Refused("sampler_name", name, ", ".join(SAMPLERS))


def find_scheduler(name: str) -> str:
    """The canonical name of a schedule, whatever its case or spacing.

    Raises:
        Refused: for an unknown name, with the list of names.
    """
    wanted = _folded(name)
    for known in SCHEDULERS:
        if _folded(known) == wanted:
            return known
    raise Refused("scheduler", name, ", ".join(SCHEDULERS))


def _folded(name: str) -> str:
    return name.strip().lower().replace(" ", "").replace("_", "")
