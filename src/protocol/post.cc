#include "protocol/post.h"

#include <algorithm>
#include <utility>

namespace pccl::protocol {

std::uint64_t PostSender::add() {
    queue_.push_back({++last_});
    return last_;
}

void PostSender::pop() {
    queue_.pop_front();
    offered_ = withdrawal_said_ = granted_ = false;
}

std::optional<std::uint64_t> PostSender::link_down() {
    link_ = offered_ = withdrawal_said_ = granted_ = false;
    if (queue_.empty() || !queue_.front().withdrawn || queue_.front().handed_over) return std::nullopt;
    const std::uint64_t number = head();
    pop();
    return number;
}

PostSender::Say PostSender::next() {
    if (!link_ || queue_.empty() || withdrawal_said_) return Say::nothing;
    if (queue_.front().withdrawn) {
        withdrawal_said_ = true;
        return Say::withdraw;
    }
    return std::exchange(offered_, true) ? Say::nothing : Say::offer;
}

PostHeard PostSender::granted(std::uint64_t number) {
    if (number > last_ || number == 0) return PostHeard::lie;
    if (queue_.empty() || number < head()) return PostHeard::history;
    if (number > head() || !offered_ || granted_) return PostHeard::lie;
    granted_ = true;
    return queue_.front().withdrawn ? PostHeard::history : PostHeard::news;
}

PostHeard PostSender::ended(std::uint64_t number, PostEnd how) {
    if (number > last_ || number == 0) return PostHeard::lie;
    if (queue_.empty() || number < head()) return PostHeard::history;
    const Message &message = queue_.front();
    if (number > message.number || !(offered_ || withdrawal_said_)) return PostHeard::lie;
    if (how == PostEnd::delivered && !message.handed_over) return PostHeard::lie;
    if (how == PostEnd::withdrawn && !message.withdrawn) return PostHeard::lie;
    pop();
    return PostHeard::news;
}

bool PostSender::withdraw(std::uint64_t number) {
    const auto found = std::ranges::find(queue_, number, &Message::number);
    if (found == queue_.end()) return false;
    if (found != queue_.begin()) {
        queue_.erase(found);
        return true;
    }
    if (!offered_ && !found->handed_over) {
        pop();
        return true;
    }
    found->withdrawn = true;
    return false;
}

PostHeard PostReceiver::offered(std::uint64_t number) {
    if (number == 0) return PostHeard::lie;
    if (number == last_) return PostHeard::repeat;
    if (number < std::max(last_, current_)) return PostHeard::history;
    if (open_) return PostHeard::lie;
    current_ = number;
    open_ = true;
    return PostHeard::news;
}

PostHeard PostReceiver::withdrawn(std::uint64_t number) {
    if (number == 0) return PostHeard::lie;
    if (number == last_) return PostHeard::repeat;
    if (number < std::max(last_, current_)) return PostHeard::history;
    if (open_ && number != current_) return PostHeard::lie;
    current_ = number;
    end(PostEnd::withdrawn);
    return PostHeard::news;
}

PostHeard PostReceiver::part(std::uint64_t number) const {
    if (number <= last_ || number < current_) return PostHeard::history;
    return open_ && granted_ && number == current_ ? PostHeard::news : PostHeard::lie;
}

void PostReceiver::end(PostEnd how) {
    last_ = current_;
    last_end_ = how;
    open_ = granted_ = false;
}

}  // namespace pccl::protocol
