"""The table of configuration fields: default, meaning, possible values.

`default_config` makes a configuration of it, `checks.py` validates with it and
`docs/reference.py` writes `docs/configuration.md` from it. It imports neither
JAX nor networks, so that configuration files load at once.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict, config_dict

AUTO = "auto"  # `resolve` settles it
SAME = "same"  # an end value: the field does not change

_ENDLESS = 2**31 - 1
_LARGEST_DECAY = 1 - 2**-24  # of float32, below 1


class Field(NamedTuple):
  """One field of a configuration."""

  default: Any  # the value of the paper's MSG-ProGAN, or ours
  meaning: str  # durations are in kimg, thousands of real images shown
  expected: str  # of a value, to follow "choose"
  accepts: Callable[[Any], bool]
  choices: tuple[str, ...] = ()  # the names among its values
  # The networks' parameters or outputs depend on it. It is checked in files of
  # others, where it must not make a network of unbounded size.
  shapes_networks: bool = False
  resumable: bool = False  # a resumed run may have another value
  untyped: bool = False  # its values have several types
  # Names files, folders or programs of one machine: neither published nor taken
  # from files of others.
  private: bool = False


def _switch(default: bool, meaning: str) -> Field:
  return Field(default, meaning, "True or False", lambda x: isinstance(x, bool))


def _text(default: str, meaning: str, **more: Any) -> Field:
  return Field(default, meaning, "a text", lambda x: isinstance(x, str), **more)


def _choice(meaning: str, *choices: str, **more: Any) -> Field:
  """Return a field of names, by default the first."""
  return Field(
    choices[0],
    meaning,
    f"one of {', '.join(choices)}",
    lambda x: isinstance(x, str) and x in choices,
    choices,
    **more,
  )


def _count(
  default: int, meaning: str, low: int = 0, high: int = _ENDLESS, **more: Any
) -> Field:
  """Return a field of whole numbers within bounds, both included."""
  bounds = f", {low} or more" if high == _ENDLESS else f" from {low} to {high}"
  return Field(
    default,
    meaning,
    f"a whole number{bounds}",
    lambda x: _is_int(x) and low <= x <= high,
    **more,
  )


def _number(
  default: float | str,
  meaning: str,
  low: float = 0.0,
  high: float = math.inf,
  *,
  above: bool = False,
  **more: Any,
) -> Field:
  """Return a field of finite numbers; `above` excludes `low` itself."""
  expected = f"a number, {low:g} or more"
  if low == -math.inf:
    expected = "a number"
  elif high < math.inf:
    expected = f"a number from {low:g} to {high:g}"
  elif above:
    expected = f"a number above {low:g}"
  return Field(
    default,
    meaning,
    expected,
    lambda x: _is_finite(x) and low <= x <= high and not (above and x == low),
    **more,
  )


def _decay(default: float | str, meaning: str) -> Field:
  """Return a field of a running mean's decay; with 1 it would never move."""
  number = _number(default, meaning, high=_LARGEST_DECAY)
  return number._replace(expected="a number from 0, below 1 in float32")


def _end(meaning: str, make: Callable = _number, **bounds: Any) -> Field:
  """Return the end value of a schedule: a number, or the start value."""
  number = make(SAME, meaning, **bounds)
  return _or(number, lambda x: x == SAME, f"{SAME}, or {{}}")


def _or(field: Field, accepts: Callable[[Any], bool], expected: str) -> Field:
  """Let a field have other values, too."""
  return field._replace(
    expected=expected.format(field.expected),
    accepts=lambda x: accepts(x) or field.accepts(x),
    untyped=True,
  )


def _is_auto(value: Any) -> bool:
  return value == AUTO


def _is_int(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
  if not (_is_int(value) or isinstance(value, float)):
    return False
  try:
    return math.isfinite(value)
  except OverflowError:  # an integer beyond all floats
    return False


def _are_scales(value: Any) -> bool:
  """`pyramid.connected_scales` checks the names and resolutions."""
  is_list = isinstance(value, Sequence) and not isinstance(value, str)
  listed = value if is_list else [value]
  return all(isinstance(scale, str) or _is_int(scale) for scale in listed)


def _are_weights(value: Any) -> bool:
  """`penalties.scale_weights` checks the list's length."""
  is_list = isinstance(value, Sequence) and not isinstance(value, str)
  return is_list and all(_is_finite(x) and x >= 0 for x in value)


def _all(fields: dict[str, Field], **more: Any) -> dict[str, Field]:
  return {name: field._replace(**more) for name, field in fields.items()}


_DATASET = {
  "dataset.name": _text(
    "", "cats, earth, folder, lsun_church, or a TFDS name such as cifar10"
  ),
  "dataset.path": _text(
    "", "folder, zip or LMDB; TFDS: its data_dir", private=True
  ),
  "dataset.split": _text("train", "split of a TFDS or demo set"),
  "dataset.crop": _choice(
    "how images of another aspect ratio fit: crop the center, or add borders",
    *("center", "pad"),
  ),
  "dataset.labels": _choice(
    "classes of a folder's or zip's images: its sub-folders, or its label "
    "file; or the bodies of the demo's cats",
    *("none", "folders", "labels.csv", "dataset.json", "bodies"),
  ),
  "dataset.holdout": _number(
    0.0,
    "images kept from training: a share below 1, or their number; "
    "near-duplicates stay together",
  ),
  "dataset.group_by": _text(
    "",
    "hold-out: images whose names match this regular expression alike stay "
    "together, such as p(\\d+)_ for a patient's number, not near-duplicates",
  ),
  "dataset.range": _text(
    "",
    "the files hold values, not colors: those that become -1 and 1, such as "
    "-1000:3000HU, one for each channel with commas, or auto, or auto:0.1 "
    "without 0.1 % of the values at each end",
  ),
  "dataset.layout": _text(
    "",
    "axes of the files' arrays: H, W, C (channels), N (one image each), or a "
    "digit (so many neighbors are channels), such as HWC, NHWC or WH3; empty: "
    "told by the number of channels",
  ),
  "dataset.data_dir": _text(
    "data", "folder of the prepared sets", private=True
  ),
}

_IMAGES = {
  "seed": _count(0, "seed of all randomness", high=2**32 - 1),
  "resolution": _count(
    256,
    "side of the largest scale, in pixels; a power of two",
    *(4, 2**14),
    shapes_networks=True,
  ),
  "base_grid": _text(
    "4x4",
    "rows and columns of the smallest scale, 4 to 7 along the longer side: "
    "3x4 at resolution 256 makes images of 192 rows and 256 columns",
    shapes_networks=True,
  ),
  "channels": _count(
    3,
    "1 gray, 3 RGB, 4 RGBA; of values any number",
    *(1, 2**10),
    shapes_networks=True,
  ),
  "bands": _text(
    "",
    "channels that pictures and feature networks show, one, or three as RGB, "
    "such as 3,2,1; by default all",
    resumable=True,
  ),
  "num_classes": _count(
    0,
    "labels are 0 to num_classes - 1; 0: unconditional",
    high=2**20,
    shapes_networks=True,
  ),
  **_all(_DATASET, resumable=True),
  "mirror": _switch(True, "random horizontal flips"),
}

_NETWORKS = {
  "model": _choice(
    "MSG-ProGAN; MSG-StyleGAN; residual: MSG-ProGAN with R3GAN's blocks, "
    "without pixel norm",
    *("progan", "stylegan", "residual"),
  ),
  "latent_size": _count(512, "dimensions of z", 1, 2**16),
  "base_channels": _count(
    16384, "width at resolution r: base_channels / r ...", 1, 2**24
  ),
  "max_channels": _count(512, "... but at most this", 1, 2**16),
  "combine": _choice(
    "phi, which joins a scale's image with the activation from above",
    *("simple", "lin_cat", "cat_lin", "lin_cat_equal"),
  ),
  "connected_scales": _or(
    _choice(
      "scales that connect G and D (Table 4); the full one always does",
      *("all", "none", "coarse", "middle", "fine"),
    ),
    _are_scales,
    "{} or a list of resolutions",
  ),
  "pyramid": _choice(
    "G's images: those of to_rgb (the paper); exact: each only adds details "
    "to the one below; pooled: means of the largest",
    *("rgb", "exact", "pooled"),
  ),
  "stddev_group": _count(
    4, "examples that share a minibatch stddev; 0: all, mixed", high=2**20
  ),
  "stddev_placement": _choice(
    "blocks of D that get the minibatch stddev",
    *("every_block", "last_block", "none"),
  ),
  "stddev_grouping": _choice(
    "neighbors share a group, which has one class if there are classes; or "
    "strided: groups cross the whole batch",
    *("contiguous", "strided"),
  ),
  "stddev_spatial": _switch(
    False, "average over channels only, not over H and W"
  ),
  "linear_gain": _number(
    1.0, "gain of to_rgb, from_rgb, the score and lin_cat", low=-math.inf
  ),
  "equalized": _switch(
    True, "equalized learning rate; else PyTorch's initialization"
  ),
  "pixel_norm": _switch(True, "progan: after each 3x3 convolution of G"),
  "spectral_norm": _switch(
    False, "progan: on the blocks' kernels, in both networks"
  ),
  "normalize_latents": _switch(
    True, "not stylegan: project z onto the hypersphere"
  ),
  "output_activation": _choice("not stylegan: of the images", "linear", "tanh"),
  "input_activation": _choice(
    "not stylegan: after from_rgb, whose gain is then sqrt(2)",
    *("linear", "leaky_relu"),
  ),
  "w_size": _count(512, "stylegan: dimensions of w", 1, 2**16),
  "mapping_size": _count(
    512, "stylegan: width of the mapping network", 1, 2**16
  ),
  "mapping_layers": _count(
    8, "stylegan: layers of the mapping network", 1, 2**7
  ),
}

_GROWTH = {
  "grow_from": _count(
    0,
    "resolution of the first stage, 4 or 8, of networks that grow to the full "
    "one; 0: all at once",
    high=2**14,
    shapes_networks=True,
  ),
  "grow_stable_kimg": _number(
    600.0, "length of each stage but the last, after its fade", above=True
  ),
  "grow_fade_kimg": _number(
    600.0, "length of the fade from one stage to the next; 0: none"
  ),
  "grow_batch_sizes": _text(
    "", "batch sizes from some resolutions on, instead of batch_size"
  ),
  "grow_learning_rates": _text(
    "", "learning rates from some resolutions on, instead of learning_rate"
  ),
}

_LOSS = {
  "loss": _choice(
    "adversarial loss",
    *("wasserstein", "logistic", "hinge", "relativistic_hinge"),
    *("least_squares", "relativistic_pairing"),
  ),
  "penalty": _choice(
    "penalty of every scale, added to D's loss",
    *("none", "gradient_penalty", "one_sided", "r1", "r2", "r1_r2"),
  )._replace(default="gradient_penalty"),
  "gp_weight": _number(10.0, "weight of gradient_penalty and one_sided"),
  "r1_gamma": _number(10.0, "R1 on the reals, times gamma / 2"),
  "r1_gamma_end": _end("r1_gamma after the burn-in"),
  "r2_gamma": _number(10.0, "R2 on the fakes, times gamma / 2"),
  "r2_gamma_end": _end("r2_gamma after the burn-in"),
  "penalty_scales": _or(
    _choice(
      "how the scales' penalties add up: mean (the paper); sum; pixels: scale "
      "s weighs (s / resolution)^2; sides: s / resolution; or a weight for "
      "each scale, low to high",
      *("mean", "sum", "pixels", "sides"),
    ),
    _are_weights,
    "{} or a list of numbers",
  ),
  "penalty_derivatives": _choice(
    "derivatives in R1: through the pooling of the pyramid, or partial",
    *("total", "partial"),
  ),
  "penalty_interval": _count(
    1, "k: penalty at every k-th step, k times as strong", low=1
  ),
  "drift_weight": _number(0.001, "weight of E r^2 in wasserstein"),
}

_AUGMENTATION = {
  "augment": _choice(
    "transformations of all images that D sees; exact: ADA's colors, flips, "
    "quarter turns, shifts and cutouts that keep pyramids exact; auto on the "
    "command line: by the number of images",
    *("none", "diffaugment", "exact", "ada"),
  ),
  "augment_strength": _number(
    1.0, "probability of each transformation; adaptive: the highest", high=1.0
  ),
  "augment_strength_end": _end("augment_strength after the burn-in", high=1.0),
  "augment_target": _number(
    0.0,
    "adaptive: the strength holds D's overfitting at this, from 0 to 1 (ADA: "
    "0.6, or 0.5 with held-out images); 0: not adaptive",
    high=1.0,
  ),
  "augment_kimg": _number(
    500.0, "adaptive: time from strength 0 to 1, at least", above=True
  ),
  "augment_holdout": _text(
    "",
    "adaptive: held-out images that D's overfitting is measured with, which "
    "losses without a zero (wasserstein, relativistic) need; a folder, a zip, "
    "an LMDB or a prepared set, or the split of another set",
    resumable=True,
    private=True,
  ),
}

_OPTIMIZATION = {
  "batch_size": _or(
    _count(
      32,
      "over all devices; auto: the config file's, or the least possible above "
      "it for the devices; a resumed run keeps its own",
      low=1,
    ),
    _is_auto,
    "{}, or auto on the command line",
  ),
  "micro_batch_size": _count(
    0,
    "examples that a device holds in memory at a time; 0: all; changes results "
    "only by rounding",
    resumable=True,
  ),
  "total_kimg": _number(
    1000.0, "length of the run", above=True, resumable=True
  ),
  "optimizer": _choice("of both networks", "rmsprop", "adam"),
  "learning_rate": _number(0.003, "of both networks", above=True),
  "learning_rate_end": _end("learning_rate after the burn-in", above=True),
  "beta1": _decay(0.0, "Adam's"),
  "beta2": _decay(0.99, "Adam's, and RMSprop's decay"),
  "beta2_end": _end("beta2 after the burn-in", make=_decay),
  "ema_kimg": _number(10.0, "half-life of G's moving average; 0: none"),
  "ema_kimg_end": _end("ema_kimg after the burn-in"),
  "ema_decay": _decay(
    0.0, "decay a step, instead of the half-life; 0: not set"
  ),
  "ema_averages": _switch(
    False,
    "keep three power-function averages of G at every checkpoint, from which "
    "sample makes the average of any --ema_kimg (Karras et al. 2024)",
  ),
  "burn_in_kimg": _number(
    0.0,
    "fields with an end value reach it after this, along half a cosine; 0: no "
    "schedules",
  ),
  "freeze_d": _count(
    0, "D's first blocks, from the image side, that are not trained", high=16
  ),
  "g_step_latents": _choice(
    "G's update uses D's latents, or fresh", "same", "fresh"
  ),
  "style_mixing": _number(
    0.0,
    "stylegan: share of the fakes in training with another w from a random "
    "layer on (StyleGAN: 0.9; MSG-StyleGAN has none)",
    high=1.0,
  ),
  "precision": _choice(
    "of the 3x3 convolutions: true float32; float32_fast: the accelerator's "
    "default for float32; bfloat16: with activations in bfloat16",
    *("float32", "float32_fast", "bfloat16"),
    shapes_networks=True,
  ),
  "remat_from": _or(
    _count(
      0,
      "blocks from this resolution up recompute their activations for the "
      "derivatives; 0: none; auto: as few as fit, found by compiling",
      shapes_networks=True,
      resumable=True,
    ),
    _is_auto,
    "a resolution, 0 or auto",
  ),
}

_RECORDS = {
  "log_kimg": _number(1.0, "between rows of stats.jsonl"),
  "sample_kimg": _number(10.0, "between grids of samples"),
  "snapshot_kimg": _number(50.0, "between checkpoints"),
  "keep": _count(
    3,
    "newest checkpoints that are kept, beside the best and step 0 of a "
    "fine-tuned run",
    low=1,
  ),
  "keep_kimg": _number(
    0.0, "also keep the first checkpoint after each multiple of this; 0: none"
  ),
}

_EVALUATION = {
  "eval_kimg": _number(200.0, "between evaluations of the moving average"),
  "metrics": _text(
    "",
    "names with commas; the first decides which checkpoint is the best; empty: "
    "a Frechet and a kernel distance",
  ),
  "inception_path": _text(
    "", "pt_inception-2015-12-05-6726825d.pth", private=True
  ),
  "extractor": _text(
    "", "module:function, an extractor of your own", private=True
  ),
  "extractor_precision": _choice(
    "of the extractor's activations", "float32", "bfloat16"
  ),
}

SECTIONS = {
  "Images": _IMAGES,
  "Networks (paper, section 3.1, Tables 6 and 7)": _all(
    _NETWORKS, shapes_networks=True
  ),
  "Growing networks (ProGAN, section 2)": _GROWTH,
  "Loss (paper, section 3.2)": _LOSS,
  "Augmentation (Karras et al. 2020)": _AUGMENTATION,
  "Optimization (paper, section 4)": _OPTIMIZATION,
  "Logs, samples and checkpoints (0: only those of start and end)": _all(
    _RECORDS, resumable=True
  ),
  "Evaluation of the moving average (0: never)": _all(
    _EVALUATION, resumable=True
  ),
}
FIELDS: dict[str, Field] = {
  name: field
  for section in SECTIONS.values()
  for name, field in section.items()
}
# Fields of networks that older files lack.
LATER = {
  name: FIELDS[name].default
  for name in ("base_grid", "pyramid", "input_activation", "grow_from")
}
# Fields of older versions -> the value that trains as without the field; None:
# each does, up to the treatment of faults.
REMOVED = {
  "agreement_weight": 0.0,
  "agreement_target": None,
  "dataset.max_unreadable": None,
  "max_rollbacks": None,
}
RESUMABLE = {name for name, field in FIELDS.items() if field.resumable}


def default_config() -> ConfigDict:
  """Return MSG-ProGAN as the paper trains it; presets start from it."""
  config = ConfigDict({"dataset": {}})
  for name, field in FIELDS.items():
    *section, last = name.split(".")
    part = config[section[0]] if section else config
    if field.untyped:
      part[last] = config_dict.placeholder(object)
    part[last] = field.default
  return config
