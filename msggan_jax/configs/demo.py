"""The demo: embedded images, about ten minutes on two idle CPU cores.

python -m msggan_jax.main --config=configs/demo.py          (cats)
python -m msggan_jax.main --config=configs/demo.py:earth    (satellite tiles)
python -m msggan_jax.main --config=configs/demo.py:cats,msg_progan   (paper)
python -m msggan_jax.main --config=configs/demo.py:cats,msg_stylegan
python -m msggan_jax.main --config=configs/demo.py:cats,progan       (grows)

Without a preset it is MSG-ProGAN with settings that were searched for a first
picture in minutes, see docs/results.md. The cats' bodies are classes. All
scales show one picture (docs/agreement.md): of cats G makes the largest, and
the others are its means; of the Earth each scale adds details to the one below.
The batch is for one or two devices; on more add --config.batch_size=auto.
"""

from msggan_jax.configs import default


def get_config(choice="cats"):
  """Return the demo on "cats" or "earth"; all numbers here are ours."""
  name, _, preset = choice.partition(",")
  if name not in ("cats", "earth"):
    raise ValueError(f"configs/demo.py:{choice}; choose cats or earth")
  config = default.get_config(preset or "msg_progan")
  config.dataset.name = name
  config.resolution = 32
  config.mirror = name == "earth"  # all cats look the same way
  config.latent_size = 64
  config.w_size = 64
  config.mapping_size = 64
  config.base_channels = 32 * 32
  config.max_channels = 48
  # It lets the low scales learn sooner than the paper's "simple".
  if config.grow_from:
    config.grow_stable_kimg = config.grow_fade_kimg = 2.0
    config.grow_batch_sizes = config.grow_learning_rates = ""
  elif config.model == "progan":
    config.combine = "lin_cat"
  config.batch_size = 8
  config.total_kimg = 32.0
  # It should forget a level's first weights within the level's fade.
  config.ema_kimg = 0.4 if config.grow_from else 1.6
  config.log_kimg = 0.16
  config.sample_kimg = 2.0
  config.snapshot_kimg = 4.0
  config.eval_kimg = 8.0
  config.metrics = "kid_efficientnet_lite0_1000"
  if not preset:
    _hurry(config)
    (_cats if name == "cats" else _earth)(config)
  return config


def _hurry(config):
  """Set the best recipe found for a run of some minutes: docs/results.md."""
  config.loss = "logistic"
  config.penalty = "r1"
  config.r1_gamma = 10.0
  config.penalty_derivatives = "partial"
  config.learning_rate = 0.012  # the paper's is 0.003
  config.batch_size = 4  # steps count more than images
  config.stddev_group = 2  # so that two devices can share it
  config.burn_in_kimg = 32.0
  config.ema_kimg, config.ema_kimg_end = 1.0, 4.0


def _cats(config):
  """Set the choices made on cats: docs/results.md, docs/agreement.md."""
  config.dataset.labels = "bodies"  # all of their colors come sooner
  config.num_classes = 15
  config.pyramid = "pooled"  # one picture at every scale
  config.penalty_scales = "pixels"
  config.r1_gamma = 2.5
  config.total_kimg = 56.0
  config.snapshot_kimg, config.eval_kimg = 3.5, 28.0  # the last at the end


def _earth(config):
  """Set the choices made on the satellite tiles: docs/agreement.md."""
  config.pyramid = "exact"  # one picture at every scale
  config.total_kimg, config.eval_kimg = 24.0, 12.0
