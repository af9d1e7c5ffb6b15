// See codec/chunk.h.
#include "codec/chunk.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

#include <zstd.h>

#include "kernel/planes.h"

namespace pccl::codec {
namespace {

/// The fastest level with entropy coding, which is the whole gain for quantized values and exponents. Negative levels omit it.
/// Most repetitions are accidental, and a reference costs more than the few bytes that it replaces. Only long repetitions that
/// are near each other count (runs of zeros), and a table of the smallest size finds these. See bench/codec_bench.cc.
constexpr int kLevel = 1, kLeastMatch = 7, kHashLog = 6;

/// Planes shorter than this do not repay the cost of separate frequency tables.
constexpr std::size_t kLeastPlane = 1024;

constexpr std::array<std::uint8_t, 4> kMagic{0x28, 0xb5, 0x2f, 0xfd};

/// The contexts of one thread.
struct Contexts {
    Contexts() {
        if (!encoder || !decoder) throw std::bad_alloc();
        // The protocol's frame already contains the length and a checksum.
        ZSTD_CCtx_setParameter(encoder.get(), ZSTD_c_compressionLevel, kLevel);
        ZSTD_CCtx_setParameter(encoder.get(), ZSTD_c_checksumFlag, 0);
        ZSTD_CCtx_setParameter(encoder.get(), ZSTD_c_minMatch, kLeastMatch);
        ZSTD_CCtx_setParameter(encoder.get(), ZSTD_c_hashLog, kHashLog);
    }
    /// Holds the planes of a chunk.
    std::byte *planes(std::size_t bytes) {
        if (bytes > planes_bytes) {
            planes_bytes = 0;
            memory.reset(new std::byte[bytes]);
            planes_bytes = bytes;
        }
        return memory.get();
    }

    struct Free {
        void operator()(ZSTD_CCtx *context) const { ZSTD_freeCCtx(context); }
        void operator()(ZSTD_DCtx *context) const { ZSTD_freeDCtx(context); }
    };
    std::unique_ptr<ZSTD_CCtx, Free> encoder{ZSTD_createCCtx()};
    std::unique_ptr<ZSTD_DCtx, Free> decoder{ZSTD_createDCtx()};
    std::unique_ptr<std::byte[]> memory;
    std::size_t planes_bytes = 0;
};

Contexts &contexts() {
    thread_local Contexts of_this_thread;
    return of_this_thread;
}

/// Each plane ends a zstd block, because zstd codes a block by the frequencies in it: mantissa bytes, which are noise, would hide
/// the similarity of the exponents. Returns 0 if the output does not fit.
std::size_t compress_planes(ZSTD_CCtx *encoder, ZSTD_outBuffer out, ZSTD_inBuffer in, std::size_t plane) {
    const std::size_t bytes = in.size;
    ZSTD_CCtx_reset(encoder, ZSTD_reset_session_only);
    ZSTD_CCtx_setPledgedSrcSize(encoder, bytes);
    do {
        in.size = bytes - in.pos < 2 * plane ? bytes : in.pos + plane;
        if (ZSTD_compressStream2(encoder, &out, &in, in.size == bytes ? ZSTD_e_end : ZSTD_e_flush) != 0) return 0;
    } while (in.pos < bytes);
    return out.pos;
}

}  // namespace

std::size_t compress(std::byte *out, std::size_t room, const std::byte *in, std::size_t bytes, unsigned planes) {
    if (bytes == 0 || !kernel::is_plane_count(planes)) return 0;
    Contexts &mine = contexts();
    if (planes > 1) {
        kernel::split_planes(mine.planes(bytes), in, bytes, planes);
        in = mine.planes(bytes);
    }
    return compress_planes(mine.encoder.get(), {out, room, 0}, {in, bytes, 0},
                           bytes / planes >= kLeastPlane ? bytes / planes : bytes);
}

bool decompress(std::byte *out, std::size_t bytes, const std::byte *in, std::size_t length, unsigned planes) {
    if (bytes == 0 || !kernel::is_plane_count(planes)) return false;
    // zstd can also decode its legacy formats, with code that is rarely maintained. Such input is refused.
    if (length < kMagic.size() || std::memcmp(in, kMagic.data(), kMagic.size()) != 0) return false;
    // The input must be exactly one frame with the expected length. It is decoded in one piece, so no window is allocated.
    if (ZSTD_getFrameContentSize(in, length) != bytes || ZSTD_findFrameCompressedSize(in, length) != length) return false;
    Contexts &mine = contexts();
    std::byte *const into = planes > 1 ? mine.planes(bytes) : out;
    if (ZSTD_decompressDCtx(mine.decoder.get(), into, bytes, in, length) != bytes) return false;
    if (planes > 1) kernel::join_planes(out, into, bytes, planes);
    return true;
}

}  // namespace pccl::codec
