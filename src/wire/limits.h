// Every limit on data that arrives from a socket. A length meets its limit before it becomes an allocation or an index.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace pccl::wire {

/// Bytes of a control message's body before the sender's Hello, and after it.
inline constexpr std::size_t kMaxHelloBytes = 1024;
inline constexpr std::size_t kMaxControlBytes = std::size_t{16} << 20;

inline constexpr std::size_t kMaxText = 4096;            ///< bytes of a reason as text
inline constexpr std::size_t kMaxPeers = 4096;           ///< members and newcomers of one run
inline constexpr std::size_t kMaxTensors = 65536;        ///< in one shared state
inline constexpr std::size_t kMaxTensorName = 1024;      ///< bytes
inline constexpr std::size_t kMaxOpsInMessage = 65536;   ///< operations named by one message
inline constexpr std::size_t kMaxRecentCommits = 65536;  ///< Commit messages that a peer keeps for a master that restarts
inline constexpr std::size_t kMaxRecentOps = 262144;     ///< operations in them
inline constexpr std::size_t kMaxReported = 256;         ///< operations, peers or links in a ProgressReport
inline constexpr std::size_t kMaxOpenOps = 65536;        ///< operations a member may have open
inline constexpr std::size_t kMaxFinalRanges = 65536;    ///< ranges of final elements in one Frozen, of all its operations
inline constexpr std::size_t kMaxViewRanges = 262144;    ///< ranges of final elements in one View, of all members

/// Data lanes.
inline constexpr std::size_t kMaxLanes = 64;
inline constexpr std::size_t kMaxChunkBytes = std::size_t{4} << 20;  ///< payload of one data frame
/// Bytes that a peer sends, per link, for operations that the receiver has not posted yet: the bytes that a path carries in 1.5
/// round trips at 1 Gbit/s, within these limits. 1.5 round trips is the longest time from the arrival of a commit at this peer to
/// the arrival of the next op_open from the peer that received the commit last.
inline constexpr std::size_t kEagerBytes = std::size_t{1} << 20;
inline constexpr std::size_t kMaxEagerBytes = std::size_t{16} << 20;
/// Bytes of such frames that a receiver holds, per link. Frames of operations that failed before they were posted here are
/// dropped with the epoch.
inline constexpr std::size_t kMaxEagerHeld = 4 * kMaxEagerBytes;
/// Frames that a receiver holds, per link, for operations that it has not posted.
inline constexpr std::size_t kMaxEagerFrames = 65536;

/// Frames that a peer retransmits over one link until an operation ends. A link that damages more fails.
inline constexpr std::size_t kMaxSentAgain = 64;

inline constexpr std::size_t kMaxDegree = 64;  ///< neighbours asked for in a graph

/// Messages between peers.
inline constexpr std::size_t kMaxInlineMessage = std::size_t{16} << 10;  ///< bytes of a message that is sent inside its offer
inline constexpr std::size_t kMinMessageChunk = std::size_t{4} << 10;
inline constexpr std::uint64_t kMaxMessageChunks = std::uint64_t{1} << 24;

inline constexpr std::chrono::seconds kHelloTimeout{10};  ///< a connection without a Hello is closed after this time

}  // namespace pccl::wire
