// See post.h.
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
    offered_ = withdrawal_sent_ = granted_ = false;
}

std::optional<std::uint64_t> PostSender::link_down() {
    link_ = offered_ = withdrawal_sent_ = granted_ = false;
    if (queue_.empty() || !queue_.front().withdrawn || queue_.front().handed_over) return std::nullopt;
    const std::uint64_t number = head();
    pop();
    return number;
}

PostSender::Action PostSender::next() {
    if (!link_ || queue_.empty() || withdrawal_sent_) return Action::nothing;
    if (queue_.front().withdrawn) {
        withdrawal_sent_ = true;
        return Action::withdraw;
    }
    return std::exchange(offered_, true) ? Action::nothing : Action::offer;
}

PostVerdict PostSender::granted(std::uint64_t number) {
    if (number > last_ || number == 0) return PostVerdict::invalid;
    if (queue_.empty() || number < head()) return PostVerdict::stale;
    if (number > head() || !offered_ || granted_) return PostVerdict::invalid;
    granted_ = true;
    return queue_.front().withdrawn ? PostVerdict::stale : PostVerdict::fresh;
}

PostVerdict PostSender::ended(std::uint64_t number, PostEnd how) {
    if (number > last_ || number == 0) return PostVerdict::invalid;
    if (queue_.empty() || number < head()) return PostVerdict::stale;
    const Message &message = queue_.front();
    if (number > message.number || !(offered_ || withdrawal_sent_)) return PostVerdict::invalid;
    if (how == PostEnd::delivered && !message.handed_over) return PostVerdict::invalid;
    if (how == PostEnd::withdrawn && !message.withdrawn) return PostVerdict::invalid;
    pop();
    return PostVerdict::fresh;
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

PostVerdict PostReceiver::offered(std::uint64_t number) {
    if (number == 0) return PostVerdict::invalid;
    if (number == last_) return PostVerdict::repeat;
    if (number < std::max(last_, current_)) return PostVerdict::stale;
    if (open_) return PostVerdict::invalid;
    current_ = number;
    open_ = true;
    return PostVerdict::fresh;
}

PostVerdict PostReceiver::withdrawn(std::uint64_t number) {
    if (number == 0) return PostVerdict::invalid;
    if (number == last_) return PostVerdict::repeat;
    if (number < std::max(last_, current_)) return PostVerdict::stale;
    if (open_ && number != current_) return PostVerdict::invalid;
    current_ = number;
    end(PostEnd::withdrawn);
    return PostVerdict::fresh;
}

PostVerdict PostReceiver::part(std::uint64_t number) const {
    if (number <= last_ || number < current_) return PostVerdict::stale;
    return open_ && granted_ && number == current_ ? PostVerdict::fresh : PostVerdict::invalid;
}

void PostReceiver::end(PostEnd how) {
    last_ = current_;
    last_end_ = how;
    open_ = granted_ = false;
}

}  // namespace pccl::protocol
