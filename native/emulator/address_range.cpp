// The emulated device's answer to cuda/address_range.h.
#include "../cuda/address_range.h"

#include "emulator.h"

namespace poc::cuda {

size_t allocation_bytes_behind(const void* data) {
  const emulator::Lock lock(emulator::device().mutex);
  return emulator::device().memory.bytes_behind(data);
}

}  // namespace poc::cuda
