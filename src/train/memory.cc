// See train/memory.h.
#include "train/memory.h"

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace pccl::train {
namespace {

constexpr std::size_t kAlignment = 64;

std::string megabytes(std::size_t bytes) { return std::to_string((bytes + (1U << 20U) - 1) >> 20U) + " MiB"; }

}  // namespace

Memory::~Memory() {
    if (mapped_bytes_ != 0)
        munmap(data_, mapped_bytes_);
    else if (owned_)
        std::free(data_);
}

Outcome Memory::allocate(std::size_t bytes) {
    const std::size_t whole = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    data_ = static_cast<std::byte *>(std::aligned_alloc(kAlignment, whole));
    if (!data_)
        return {pcclInternalError, "the outer state of " + megabytes(bytes) +
                                       " could not be allocated: out of memory. Set `state_file` to keep it in a file"};
    owned_ = true;
    std::memset(data_, 0, whole);
    return {};
}

Outcome Memory::use(void *buffer, std::size_t buffer_bytes, std::size_t bytes) {
    if (reinterpret_cast<std::uintptr_t>(buffer) % kAlignment != 0)
        return invalid("`state_buffer` is not aligned to 64 bytes. Use an aligned allocation");
    if (buffer_bytes < bytes) {
        return invalid("`state_buffer` has " + std::to_string(buffer_bytes) + " bytes and needs " + std::to_string(bytes) +
                       " (pcclTrainerStateBytes)");
    }
    data_ = static_cast<std::byte *>(buffer);
    std::memset(data_, 0, bytes);
    return {};
}

Outcome Memory::map(const std::string &path, std::size_t bytes) {
    const auto failed = [&](const char *what) {
        return invalid("state_file " + path + ": " + what + ": " + std::strerror(errno));
    };
    const int file = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0) return failed("cannot be opened");
    // The file is allocated completely now. If the disk became full later, a store to memory would kill the process.
    if (const int error = posix_fallocate(file, 0, static_cast<off_t>(bytes)); error != 0) {
        close(file);
        errno = error;
        return failed(("cannot be extended to " + megabytes(bytes)).c_str());
    }
    void *address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    const int error = errno;
    close(file);
    if (address == MAP_FAILED) {
        errno = error;
        return failed("cannot be mapped");
    }
    data_ = static_cast<std::byte *>(address);
    mapped_bytes_ = bytes;
    return {};
}

float *Memory::take(std::size_t count) {
    auto *out = reinterpret_cast<float *>(data_ + taken_);
    taken_ += count * sizeof(float);
    return out;
}

}  // namespace pccl::train
