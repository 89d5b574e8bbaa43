"""Bytes, products and collectives of compiled programs, counted by hand."""

from msggan_jax.planning import instructions
from msggan_jax.planning.devices import Chip
from msggan_jax.planning.instructions import Work

PROGRAM = """
HloModule jit_step

%fused (param_0: bf16[8,64,64,16], param_1: bf16[3,3,16,16]) -> bf16[8,64,64,16] {
  %param_0 = bf16[8,64,64,16]{3,0,2,1:T(8,128)(2,1)} parameter(0)
  %param_1 = bf16[3,3,16,16]{3,2,1,0:T(8,128)(2,1)} parameter(1)
  ROOT %convolution.1 = bf16[8,64,64,16]{3,0,2,1:T(8,128)(2,1)} convolution(%param_0, %param_1), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f
}

%sliced (param_0: f32[4,1024], param_1: s32[]) -> f32[1,1024] {
  %param_0 = f32[4,1024]{1,0:T(1,128)} parameter(0)
  %param_1 = s32[] parameter(1)
  ROOT %slice = f32[1,1024]{1,0:T(1,128)} dynamic-slice(%param_0, %param_1), dynamic_slice_sizes={1,1024}
}

%body (arg: (f32[4,1024], s32[])) -> (f32[4,1024], s32[]) {
  %arg = (f32[4,1024]{1,0:T(1,128)}, s32[]) parameter(0)
  %array = f32[4,1024]{1,0:T(1,128)} get-tuple-element(%arg), index=0
  %index = s32[] get-tuple-element(%arg), index=1
  %part = f32[1,1024]{1,0:T(1,128)S(1)} fusion(%array, %index), kind=kLoop, calls=%sliced, metadata={op_name="jit(step)/scan/level_8/mul"}
  ROOT %tuple = (f32[4,1024]{1,0:T(1,128)}, s32[]) tuple(%array, %index)
}

%condition (arg.1: (f32[4,1024], s32[])) -> pred[] {
  %arg.1 = (f32[4,1024]{1,0:T(1,128)}, s32[]) parameter(0)
  ROOT %less = pred[] constant(true)
}

ENTRY %main (x: bf16[8,64,64,16], k: bf16[3,3,16,16], t: (f32[4,1024], s32[])) -> bf16[8,64,64,16] {
  %x = bf16[8,64,64,16]{3,0,2,1:T(8,128)(2,1)} parameter(0)
  %k = bf16[3,3,16,16]{3,2,1,0:T(8,128)(2,1)} parameter(1)
  %t = (f32[4,1024]{1,0:T(1,128)}, s32[]) parameter(2)
  %loop = (f32[4,1024]{1,0:T(1,128)}, s32[]) while(%t), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"4"}}
  %y = bf16[8,64,64,16]{3,0,2,1:T(8,128)(2,1)} fusion(%x, %k), kind=kOutput, calls=%fused, metadata={op_name="jit(step)/jvp(level_64)/conv"}
  ROOT %copy.3 = bf16[8,64,64,16]{3,2,1,0:T(8,128)(2,1)} copy(%y)
}
"""  # noqa: E501
CHIP = Chip("chip", 0, 1.0, default_passes=2, highest_passes=6)
PADDED = 2 * 8 * 64 * 64 * 128  # bytes of x: 16 channels become 128


def test_work_of_a_program():
  part, convolution, copy = instructions.works(PROGRAM, CHIP)
  # Four parts of 1024 floats are read; the result stays on the chip.
  assert part == Work(8, 4 * (4096 + 4), 0, "elementwise", 4, "")
  # The kernel is padded in both directions.
  assert convolution == Work(
    level=64,
    bytes_moved=2 * PADDED + 2 * 9 * 16 * 128,
    padded_flops=2 * 8 * 64 * 64 * 9 * 128 * 128,
    kind="convolution",
    kernels=1,
    products="bfloat16",
  )
  # The layout of a copy belongs to the level of its operand. Its minor
  # dimensions are W and C, so nothing but the channels is padded.
  assert copy == Work(64, 2 * PADDED, 0, "copy", 1, "")


GPU_PROGRAM = """
%gemm (parameter_0: f32[8,512], parameter_1: f32[8,64]) -> f32[512,64] {
  %parameter_0 = f32[8,512]{1,0} parameter(0)
  %parameter_1 = f32[8,64]{1,0} parameter(1)
  ROOT %dot.1 = f32[512,64]{1,0} dot(%parameter_0, %parameter_1), lhs_contracting_dims={0}, rhs_contracting_dims={0}, operand_precision={highest,highest}
}

ENTRY %main (x: bf16[8,32,32,16], k: bf16[64,3,3,16], y: bf16[8,16,16,64], a: f32[8,512], b: f32[8,64]) -> f32[512,64] {
  %x = bf16[8,32,32,16]{3,2,1,0} parameter(0)
  %k = bf16[64,3,3,16]{3,2,1,0} parameter(1)
  %y = bf16[8,16,16,64]{3,2,1,0} parameter(2)
  %a = f32[8,512]{1,0} parameter(3)
  %b = f32[8,64]{1,0} parameter(4)
  %conv = (bf16[8,16,16,64]{3,2,1,0}, u8[0]{0}) custom-call(%x, %k), window={size=3x3 pad=1_1x1_1 stride=2x2}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward"
  %input = (bf16[8,32,32,16]{3,2,1,0}, u8[0]{0}) custom-call(%y, %k), window={size=3x3 pad=1_1x1_1 stride=2x2}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardInput"
  %filter = (bf16[64,3,3,16]{3,2,1,0}, u8[0]{0}) custom-call(%x, %y), window={size=3x3 pad=1_1x1_1 stride=2x2}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardFilter", metadata={op_name="level_32/conv"}
  ROOT %gemm.1 = f32[512,64]{1,0} fusion(%a, %b), kind=kCustom, calls=%gemm
}
"""  # noqa: E501


def test_work_of_a_program_for_gpus():
  """cuDNN's gradients make the products of their convolution."""
  *convolutions, product = instructions.works(GPU_PROGRAM, CHIP)
  moved = 2 * (8 * 32 * 32 * 16 + 64 * 9 * 16 + 8 * 16 * 16 * 64)
  for work, level in zip(convolutions, (None, None, 32), strict=True):
    assert work == Work(
      level=level,
      bytes_moved=moved,
      padded_flops=2 * 8 * 16 * 16 * 64 * 9 * 16,
      kind="convolution",
      kernels=1,
      products="bfloat16",
    )
  moved = 4 * (8 * 512 + 8 * 64 + 512 * 64)
  flops = CHIP.highest_passes * 2 * 8 * 512 * 64
  assert product == Work(None, moved, flops, "product", 1, "")


def test_trips_of_a_loop_that_only_its_condition_knows():
  program = PROGRAM.replace(
    ', backend_config={"known_trip_count":{"n":"4"}}', ""
  ).replace(
    "  ROOT %less = pred[] constant(true)",
    "  %bound = s32[]{:T(128)} constant(4), metadata={}\n"
    "  ROOT %less = pred[] compare(%arg.1, %bound), direction=LT",
  )
  assert program.count("constant(4)") == 1
  works = instructions.works(program, CHIP)
  assert works == instructions.works(PROGRAM, CHIP)


def test_padded_flops():
  for left, right, out, attributes, expected in (
    (  # A weight gradient: the examples are in the sublanes, 4 of 8.
      "bf16[4,32,32,16]{3,0,2,1:T(8,128)(2,1)}",
      "bf16[4,32,32,64]{3,0,2,1:T(8,128)(2,1)}",
      "bf16[3,3,16,64]{3,2,1,0:T(8,128)(2,1)}",
      "window={size=32x32 pad=1_1x1_1}, dim_labels=f01b_i01o->01bf",
      2 * 128 * 128 * 8 * (9 * 32 * 32),
    ),
    (  # Zeros between rows are not multiplied.
      "bf16[8,16,32,128]{3,0,2,1:T(8,128)(2,1)}",
      "bf16[4,3,128,128]{3,2,1,0:T(8,128)(2,1)}",
      "bf16[8,32,32,128]{3,0,2,1:T(8,128)(2,1)}",
      "window={size=4x3 lhs_dilate=2x1}, dim_labels=b01f_01io->b01f",
      2 * 8 * 32 * 32 * 128 * 128 * 2 * 3,
    ),
    (
      "f32[8,128]{1,0:T(8,128)}",
      "f32[128,3]{1,0:T(8,128)}",
      "f32[8,3]{1,0:T(8,128)}",
      "dim_labels=bf_io->bf",
      2 * 8 * 128 * 128,
    ),
  ):
    arrays = [instructions.parse_arrays(text)[0] for text in (left, right, out)]
    assert instructions.padded_flops(*arrays, attributes) == expected


def test_collectives_of_a_module():
  module = """
%skip (p: f32[2]) -> f32[2] {
  ROOT %s = f32[2]{0} all-reduce(f32[2] %p), replica_groups={{0,1}}
}

%penalize (q: f32[2]) -> f32[2] {
  ROOT %t = f32[2]{0} all-reduce(f32[2] %q), replica_groups={{0,1}}
}

ENTRY %main (x: f32[10,3]) -> f32[] {
  %lazy = f32[2]{0} conditional(s32[] %i, f32[2] %p, f32[2] %q), branch_computations={%skip, %penalize}
  %a = f32[10,3]{1,0} all-reduce(f32[10,3] %x), replica_groups={{0,1}}
  %b = (f32[2]{0}, bf16[4]{0}) all-reduce-start(f32[2] %y, bf16[4] %z)
  %c = (f32[2]{0}, bf16[4]{0}) all-reduce-done(%b)
  %d = (f32[4]{0}, f32[32]{0}) all-gather-start(f32[4] %y), dimensions={0}
  %e = f32[] add(f32[] %all-reduce, f32[] %q)
}
"""  # noqa: E501
  assert instructions.collectives(module) == {
    "all-reduce": [8, 120, 8 + 8],
    "all-gather": [128],
  }
