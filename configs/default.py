"""Every field with the paper's MSG-ProGAN values; data sets add their own.

Durations are in kimg: thousands of real images shown. Fractions are allowed;
0 turns a periodic action off.

python -m msggan_jax.main --config=configs/default.py:msg_stylegan ...
"""

import pathlib
import runpy

from ml_collections import ConfigDict, config_dict

PRESETS = (
  "msg_progan",
  "msg_stylegan",
  "msg_stylegan_official",
  "bmsg_gan",
  "msg_gan_v1",
)


def get_config(preset="msg_progan"):
  """Return a preset's configuration; the data set is missing.

  Raises:
    ValueError: If there is no preset of that name.
  """
  if preset not in PRESETS:
    raise ValueError(
      f"there is no preset {preset!r}; choose one of {', '.join(PRESETS)}"
    )
  path = pathlib.Path(__file__).parent / "presets" / f"{preset}.py"
  return runpy.run_path(str(path))["get_config"]()


def get_base_config():
  """Return MSG-ProGAN as the paper trains it, which presets start from."""
  config = ConfigDict()
  config.seed = 0

  # Images.
  config.resolution = 256  # of the largest scale; a power of two, 4 or more
  config.channels = 3
  config.num_classes = 0  # labels 0 to num_classes - 1; 0: unconditional
  config.dataset = ConfigDict()
  # cats, earth, folder, lsun_church, or a TFDS name such as cifar10.
  config.dataset.name = ""
  config.dataset.path = ""  # folder, zip or LMDB; TFDS: its data_dir
  config.dataset.split = "train"
  config.dataset.crop = "center"  # of images that are not square: center, pad
  config.dataset.data_dir = "data"  # where prepared sets are kept
  # Share of the prepared images that may turn out damaged, each replaced by the
  # next one, three in any case; 0: none. More of them end the run.
  config.dataset.max_unreadable = 0.001
  config.mirror = True  # random horizontal flips

  # Networks (paper, section 3.1, Tables 6 and 7).
  config.model = "progan"  # or stylegan
  config.latent_size = 512
  config.base_channels = 16384  # width at resolution r: base_channels / r ...
  config.max_channels = 512  # ... but at most this
  config.combine = "simple"  # phi: simple, lin_cat, cat_lin, lin_cat_equal
  # all, none, coarse, middle, fine, or a list of resolutions (Table 4).
  config.connected_scales = config_dict.placeholder(object)
  config.connected_scales = "all"
  config.stddev_group = 4  # examples that share a minibatch stddev; 0: all
  config.stddev_placement = "every_block"  # or last_block
  config.stddev_grouping = "contiguous"  # or strided: crosses the whole batch
  config.stddev_spatial = False  # average over channels only, not H and W
  config.linear_gain = 1.0  # of to_rgb, from_rgb, the score and lin_cat
  config.equalized = True  # learning rate; else PyTorch's initialisation
  # Of progan only.
  config.pixel_norm = True  # after each 3x3 convolution of the generator
  config.spectral_norm = False  # on the blocks' kernels, in both networks
  config.normalize_latents = True  # put them on the hypersphere
  config.output_activation = "linear"  # of the images, or tanh
  # Of stylegan only.
  config.w_size = 512
  config.mapping_size = 512  # width of the mapping network between z and w
  config.mapping_layers = 8

  # Loss (paper, section 3.2): WGAN-GP, the penalty averaged over the scales.
  # wasserstein, logistic, hinge, relativistic_hinge, least_squares,
  # relativistic_pairing.
  config.loss = "wasserstein"
  # none, gradient_penalty, one_sided, r1, r2, r1_r2.
  config.penalty = "gradient_penalty"
  config.gp_weight = 10.0
  config.r1_gamma = 10.0
  config.r2_gamma = 10.0
  config.penalty_derivatives = "total"  # of r1: through the pooling; or partial
  config.penalty_interval = 1  # k: every k-th step, k times as strong
  config.drift_weight = 0.001  # of E r^2 in wasserstein

  # Optimization (paper, section 4): the same for every data set.
  config.batch_size = 32  # over all devices
  # Examples a device holds in memory at a time; 0: all. The result is the same.
  config.micro_batch_size = 0
  config.total_kimg = 1000.0
  config.optimizer = "rmsprop"  # or adam
  config.learning_rate = 0.003  # of both networks
  config.beta1 = 0.0  # adam only
  config.beta2 = 0.99  # adam's, and rmsprop's decay
  config.ema_kimg = 10.0  # half-life of the generator's moving average
  config.ema_decay = 0.0  # per step; if set, instead of the half-life
  config.g_step_latents = "same"  # as D's, or fresh
  config.precision = "float32"  # of the activations, or bfloat16
  # Blocks of this resolution and above compute their activations again for
  # the derivatives instead of keeping them; 0: none; auto: as few as fit, found
  # by compiling.
  config.remat_from = config_dict.placeholder(object)
  config.remat_from = 0

  # How often a run goes back to the same checkpoint, with other random numbers,
  # when a number is not finite; then it ends.
  config.max_rollbacks = 3

  # What a run leaves, and when.
  config.log_kimg = 1.0
  config.sample_kimg = 10.0
  config.snapshot_kimg = 50.0
  config.keep = 3  # checkpoints, the newest; the best one stays anyway
  config.keep_kimg = 0.0  # and the first after each multiple of this; 0: none

  # Evaluation of the moving average (README, Evaluate).
  config.eval_kimg = 200.0
  # Names with commas; the first decides which checkpoint is the best. "": a
  # Frechet and a kernel distance.
  config.metrics = ""
  config.inception_path = ""  # pt_inception-2015-12-05-6726825d.pth
  config.extractor = ""  # module:function of your own, instead
  config.extractor_precision = "float32"  # or bfloat16
  return config
