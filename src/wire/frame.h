// The frames of data lanes: a header of 64 bytes, then the payload. Little-endian.
//
// `checksum` is XXH3-64 of the payload, `header_checksum` of the 56 bytes before it (both computed by the shell that does the I/O): TCP's
// own 16 bits do not suffice for the traffic of a training run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "base/ids.h"
#include "op/operation_spec.h"
#include "wire/codec.h"

namespace pccl::wire {

inline constexpr std::uint32_t kFrameMagic = 0x31465043;  // "CPF1"

enum class FrameKind : std::uint8_t {
    link_hello = 0,   ///< first frame of a connection, from the dialler; payload LinkHello
    link_accept,      ///< its answer
    op_open,          ///< the sender posted this operation; payload OperationSpec
    reduce_chunk,     ///< a contribution or partial result
    gather_chunk,     ///< a final chunk
    probe_data,       ///< nothing of value
    probe_end,        ///< the sender has stopped
    probe_result,     ///< what the receiver measured: `offset` bytes in `aux` microseconds
    state_ask_list,   ///< for the chunk checksums of tensor `index`; payload the content hash wanted
    state_list,       ///< the checksums, 8 bytes a chunk
    state_ask_chunk,  ///< for chunk `aux` of tensor `index`; payload the content hash wanted
    state_chunk,      ///< its bytes
    state_refuse,     ///< not held here (any more)
    direct_chunk,     ///< the whole contribution of the member with rank `index`
    reduce_credit,    ///< contributions to chunks below `aux` of the sender's block may be sent
    post_offer,       ///< message `epoch` of `offset` bytes is to be sent, in chunks of `aux`; payload all of it, if it is small
    post_grant,       ///< there is room for message `epoch`
    post_chunk,       ///< chunk `aux` of message `epoch`
    post_end,         ///< message `epoch` is over; `aux` says how (protocol::PostEnd)
    post_withdraw,    ///< message `epoch` is not to be taken any more
    ask_again,        ///< a frame arrived with a wrong payload checksum; payload: its header, 64 bytes
};
inline constexpr int kFrameKinds = 21;

struct FrameHeader {
    std::uint32_t magic = kFrameMagic;
    FrameKind kind{};
    std::uint8_t planes = 0;        ///< 0: the payload is as it is. Else it is compressed: the size of its elements, 1, 2, 4 or 8
    std::uint16_t hop = 0;          ///< of a chunk: how many members it passed before the sender; in a one-hop, the sender's rank
    std::uint64_t epoch = 0;        ///< of an operation; the sync for state frames; the round for probes; the number of a message
    std::uint64_t tag = 0;
    std::uint32_t seq = 0;
    std::uint32_t index = 0;        ///< the block of a chunk; a tensor
    std::uint32_t aux = 0;          ///< the chunk in its block; the chunk of a tensor
    std::uint32_t bytes = 0;        ///< of payload, as it travels
    std::uint64_t offset = 0;       ///< of a chunk: the hash of its operation's spec; of a probe's result, or an offer: bytes
    std::uint64_t checksum = 0;
    std::uint64_t header_checksum = 0;

    OpId op() const { return {ViewNumber{epoch}, Tag{tag}, seq}; }
};
static_assert(sizeof(FrameHeader) == 64 && std::is_trivially_copyable_v<FrameHeader>);
inline constexpr std::size_t kFrameHeaderBytes = sizeof(FrameHeader);
inline constexpr std::size_t kHeaderChecked = offsetof(FrameHeader, header_checksum);

/// A compressed payload begins with its plain length, a u32.
inline constexpr std::size_t kPlainLengthBytes = 4;
/// Chunks may come compressed; what is small or means something by itself may not.
constexpr bool may_be_compressed(FrameKind kind) {
    return kind == FrameKind::reduce_chunk || kind == FrameKind::gather_chunk || kind == FrameKind::direct_chunk || kind == FrameKind::state_chunk ||
           kind == FrameKind::post_chunk;
}

/// The receiver of such a frame asks for it again when its payload has the wrong checksum; the sender can tell whether its source changed.
constexpr bool may_be_asked_again(FrameKind kind) {
    return kind == FrameKind::reduce_chunk || kind == FrameKind::gather_chunk || kind == FrameKind::direct_chunk || kind == FrameKind::post_chunk;
}

/// Who calls, whom, and the proof that the master meant them to.
struct LinkHello {
    Secret run{};
    PeerId from, to;
    std::uint32_t attempt = 0;
    Secret token{};
};
template <class V>
void visit(V &v, LinkHello &m) {
    v(m.run);
    v(m.from);
    v(m.to);
    v(m.attempt);
    v(m.token);
}
inline constexpr std::size_t kMaxLinkHelloBytes = 128;

template <> struct EnumLimit<op::Op> { static constexpr unsigned value = op::kOps; };
template <> struct EnumLimit<op::Quant> { static constexpr unsigned value = op::kQuants; };
template <> struct EnumLimit<op::Scale> { static constexpr unsigned value = op::kScales; };
template <> struct EnumLimit<op::Algorithm> { static constexpr unsigned value = op::kAlgorithms; };
template <> struct EnumLimit<op::LossPolicy> { static constexpr unsigned value = op::kLossPolicies; };
template <> struct EnumLimit<op::Collective> { static constexpr unsigned value = op::kCollectives; };

template <class V>
void visit(V &v, op::OperationSpec &m) {
    v(m.count);
    v(below(m.type, op::kTypes));
    v(m.op);
    v(m.quantization.algorithm);
    v(m.quantization.type);
    v(m.quantization.block);
    v(m.quantization.scale);
    v(m.algorithm);
    v(m.error_feedback);
    v(m.on_peer_loss);
    v(m.collective);
}

}  // namespace pccl::wire
