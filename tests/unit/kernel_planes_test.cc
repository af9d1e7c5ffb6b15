// Byte planes: the position of each byte after splitting, and joining again, on every instruction set and for every length.
#include "kernel/planes.h"

#include "unit/kernel_targets.h"

namespace pccl::kernel {
namespace {

std::vector<std::uint8_t> planes_of(const std::vector<std::uint8_t> &in, std::size_t planes) {
    const std::size_t whole = in.size() / planes;
    std::vector<std::uint8_t> out;
    for (std::size_t p = 0; p < planes; ++p)
        for (std::size_t i = 0; i < whole; ++i)
            out.push_back(in[i * planes + p]);
    out.insert(out.end(), in.begin() + static_cast<std::ptrdiff_t>(whole * planes), in.end());
    return out;
}

TEST(KernelPlanes, SplitAndJoinForEveryLengthAndAlignment) {
    on_every_target([](std::int64_t) {
        for (const unsigned planes : {2u, 4u, 8u}) {
            for (const std::size_t bytes : test_counts()) {
                std::vector<std::uint8_t> in(bytes);
                for (std::size_t i = 0; i < bytes; ++i)
                    in[i] = static_cast<std::uint8_t>(i * 7 + i / 256);
                Buffer from(bytes, bytes % 5), apart(bytes, bytes % 3), together(bytes, bytes % 7);
                from.assign(in);
                split_planes(apart.data(), from.data(), bytes, planes);
                ASSERT_EQ(apart.contents(), planes_of(in, planes)) << bytes << " bytes of elements of " << planes;
                join_planes(together.data(), apart.data(), bytes, planes);
                ASSERT_EQ(together.contents(), in) << bytes << " bytes of elements of " << planes;
                ASSERT_TRUE(apart.guards_hold() && together.guards_hold());
            }
        }
    });
}

}  // namespace
}  // namespace pccl::kernel
