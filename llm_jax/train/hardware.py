"""What accelerators can do at most by their makers' figures, for MFU."""

# Dense bfloat16 operations a second of one device, the first part of its kind
# that fits. NVIDIA prints twice as much for its sparse form.
_PEAK_FLOPS = (
  # nvidia.com/en-us/data-center: data sheets of H200, H100 and A100
  ('NVIDIA H200', 989.4e12),
  ('NVIDIA H100 PCIe', 756e12),
  ('NVIDIA H100 NVL', 835.5e12),
  ('NVIDIA H100', 989.4e12),
  ('NVIDIA A100', 312e12),
  # cloud.google.com/tpu/docs/v4, v5e, v5p and v6e
  ('TPU v4', 275e12),
  ('TPU v5 lite', 197e12),
  ('TPU v5e', 197e12),
  ('TPU v5', 459e12),
  ('TPU v6', 918e12),
)


def peak_flops(device_kind: str) -> float | None:
  """Dense bfloat16 operations a second that a device reaches at most.

  >>> peak_flops('NVIDIA H100 80GB HBM3')
  989400000000000.0

  Args:
    device_kind: as JAX spells it, `jax.devices()[0].device_kind`.

  Returns:
    The maker's number; None for a device that is not in the table, such as
    a CPU.
  """
  for start, flops in _PEAK_FLOPS:
    if device_kind.startswith(start):
      return flops
  return None
