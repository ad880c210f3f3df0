"""What a configuration may not be: values out of range and fields that contradict each other, refused at the door."""

from ctclip.config import TrainConfig
from ctclip.errors import ConfigError


def check_config(config: TrainConfig) -> None:
    """Refuse what contradicts itself, before anything runs.

    Raises:
        ConfigError: Names the field, its value, the limit and the way out.
    """
    data, text = config.data, config.model.text
    at_least_one = {
        "data.batch_size": data.batch_size, "checkpoint_every": config.checkpoint_every,
        "keep_checkpoints": config.keep_checkpoints, "log_every": config.log_every, "data.prefetch": data.prefetch,
        "model.embedding_dim": config.model.embedding_dim, "model.text.max_length": text.max_length,
    }  # fmt: skip
    for name, value in at_least_one.items():
        if value < 1:
            raise ConfigError(f"{name}={value} must be at least 1")
    if config.steps < 0 or (config.steps == 0 and config.init == "random"):
        raise ConfigError(
            f"steps={config.steps} must be at least 1, or 0 with init: a run of given weights that are not trained"
        )
    at_least_zero = {
        "bn_group": config.bn_group, "profile_steps": config.profile_steps, "threads": config.threads,
        "data.cache_gib": data.cache_gib,
    }  # fmt: skip
    for name, value in at_least_zero.items():
        if value < 0:
            raise ConfigError(f"{name}={value} must not be negative; 0 is its default")
    if isinstance(config.micro_batch, int) and config.micro_batch < 1:
        raise ConfigError(f"micro_batch={config.micro_batch} must be at least 1, or off, or auto")
    if not 0 <= config.ema_decay < 1:
        raise ConfigError(f"ema_decay={config.ema_decay} must be below 1, such as 0.999; 0 keeps no average")
    if not 0 <= config.activation_budget <= 1:
        raise ConfigError(f"activation_budget={config.activation_budget} is a share, from 0 to 1")
    if not 0 < data.fraction <= 1 or not all(0 < fraction <= 1 for fraction in data.fractions):
        raise ConfigError(
            f"data.fraction={data.fraction} and data.fractions={data.fractions} are shares, above 0 and up to 1"
        )
    if data.twin_epochs < 1:
        raise ConfigError(f"data.twin_epochs={data.twin_epochs} must be at least 1")
    if not data.windows_hu:
        raise ConfigError("data.windows_hu is empty; give at least one (low, high), as (-1000, 1000)")
    unknown = sorted(set(data.quotas) - {"normal", "abnormal"})
    if unknown:
        raise ConfigError(f"data.quotas has unknown keys {unknown}; they are normal and abnormal")
    if not config.optim.learning_rate > 0:
        raise ConfigError(f"optim.learning_rate={config.optim.learning_rate} must be above 0")
    if text.name == "" and text.width % text.heads:
        raise ConfigError(f"model.text.width={text.width} must be a multiple of model.text.heads={text.heads}")
    if data.schedule != "full" and not data.sections:
        raise ConfigError(f"data.schedule={data.schedule!r} needs data.sections; use schedule 'full' for none")
