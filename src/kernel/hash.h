// XXH3 over spans: 64-bit checksums of frames, and the content hash of a tensor (XXH3-128 over the XXH3-64 of its 1 MiB chunks).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace pccl::kernel {

inline constexpr std::size_t kHashChunkBytes = std::size_t{1} << 20;

/// XXH3-64. The data may be NULL if there are none.
std::uint64_t checksum(const void *data, std::size_t bytes);

/// XXH3-64 of data that arrive in pieces: add() all pieces except the last, then finish() once.
class Checksum {
public:
    static constexpr std::size_t kGrain = 1024;
    Checksum();
    /// `bytes` is a multiple of kGrain. `read` and `write`: memory of about as many bytes that will be used next, which is
    /// fetched into the cache meanwhile; NULL if there is none.
    void add(const void *data, std::size_t bytes, const void *read = nullptr, void *write = nullptr);
    /// The last piece: at least 64 bytes, or all data.
    std::uint64_t finish(const void *data, std::size_t bytes);

private:
    alignas(64) std::uint64_t words_[8];
    std::size_t bytes_ = 0;
};

struct ContentHash {
    std::array<std::uint8_t, 16> bytes{};  ///< canonical (big-endian) XXH3-128
    friend auto operator<=>(const ContentHash &, const ContentHash &) = default;
};

/// One checksum per 1 MiB chunk of the data. The last chunk can be shorter. Empty data have no checksum.
std::vector<std::uint64_t> chunk_checksums(const void *data, std::size_t bytes);

/// The hash of the list: two tensors of equal size with equal hashes hold the same bytes. The list is hashed as little-endian
/// words.
ContentHash content_hash(std::span<const std::uint64_t> chunk_checksums);

}  // namespace pccl::kernel
