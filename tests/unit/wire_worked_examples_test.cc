// The bytes of control messages in docs/internals/protocol.md are the bytes that the code sends.
#include "unit/worked_example.h"
#include "wire/messages.h"

namespace pccl::wire {
namespace {

TEST(WorkedExample, HelloEqualsTheDocument) {
    Hello hello;
    hello.group = GroupId{7};
    hello.advertised.port = 48149;
    hello.lanes = 4;
    EXPECT_EQ(in_hex(encode(ToMaster(hello))), in_hex(worked_example("hello")));
}

TEST(WorkedExample, ViewEqualsTheDocument) {
    View view;
    view.number = ViewNumber{3};
    view.epoch = ViewNumber{3};
    view.ring = {PeerId{1}, PeerId{4}};
    view.groups = {{GroupId{7}, 2}};
    view.full_mesh = true;
    view.path = {50000, 940};
    view.generation = 5;
    view.begun = {{Tag{9}, 1}};
    view.why = "peer 2 left";
    EXPECT_EQ(in_hex(encode(ToPeer(view))), in_hex(worked_example("view")));
}

}  // namespace
}  // namespace pccl::wire
