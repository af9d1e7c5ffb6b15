// See packed.h.
#include "peer/packed.h"

#include <time.h>

#include <cstring>

#include "codec/chunk.h"
#include "kernel/hash.h"
#include "peer/buffer_pool.h"

namespace pccl::peer {

namespace {

Duration &spent() {
    thread_local Duration of_this_thread{};
    return of_this_thread;
}

/// Returns the CPU time of this thread.
Duration processor_time() {
    timespec time{};
    if (::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) != 0) return monotonic_now().since_origin;
    return std::chrono::duration_cast<Duration>(std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec));
}

}  // namespace

Buffer packed_memory(std::size_t bytes) {
    thread_local BufferPool of_this_thread;
    return of_this_thread.get(bytes);
}

Duration pack(Packed &packed, const std::byte *plain, std::size_t bytes, unsigned planes) {
    packed.tried = true;
    if (bytes == 0 || bytes > wire::kMaxChunkBytes) return {};
    const std::size_t room = bytes - bytes / 32;
    if (room <= wire::kPlainLengthBytes + 1) return {};
    const Time begin = monotonic_now();
    const Duration worked = processor_time();
    Buffer memory = packed_memory(room);
    const std::size_t length =
        codec::compress(memory.get() + wire::kPlainLengthBytes, room - wire::kPlainLengthBytes, plain, bytes, planes);
    const Duration took = processor_time() - worked;
    spent() += monotonic_now() - begin;
    if (length == 0 || length + wire::kPlainLengthBytes >= bytes) return took;
    const auto plain_bytes = static_cast<std::uint32_t>(bytes);
    std::memcpy(memory.get(), &plain_bytes, sizeof plain_bytes);
    packed.length = static_cast<std::uint32_t>(length + wire::kPlainLengthBytes);
    packed.checksum = kernel::checksum(memory.get(), packed.length);
    packed.planes = static_cast<std::uint8_t>(planes);
    packed.bytes = std::move(memory);
    return took;
}

std::uint32_t plain_length(const std::byte *packed) {
    std::uint32_t bytes = 0;
    std::memcpy(&bytes, packed, sizeof bytes);
    return bytes;
}

bool unpack(std::byte *plain, std::size_t bytes, const std::byte *packed, std::size_t length, unsigned planes) {
    if (length < wire::kPlainLengthBytes || plain_length(packed) != bytes) return false;
    const Time begin = monotonic_now();
    const bool valid =
        codec::decompress(plain, bytes, packed + wire::kPlainLengthBytes, length - wire::kPlainLengthBytes, planes);
    spent() += monotonic_now() - begin;
    return valid;
}

Duration time_in_codec() { return spent(); }

}  // namespace pccl::peer
