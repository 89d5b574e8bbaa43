"""The networks; `networks.py` builds them from a configuration."""

NAMES = {  # of the choices of `config.model`
  "progan": "MSG-ProGAN",
  "stylegan": "MSG-StyleGAN",
  "residual": "MSG-ProGAN with residual blocks",
}
