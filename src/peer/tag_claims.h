// The tags of operations that have not ended. A tag names one operation at a time: a second operation with the tag is refused at
// its launch. Thread-safe.
#pragma once

#include <memory>
#include <mutex>
#include <unordered_set>
#include <utility>

#include "base/ids.h"

namespace pccl::peer {

class TagClaims {
public:
    /// Holds a tag until it is destroyed or released.
    class Claim {
    public:
        Claim() = default;
        Claim(Claim &&other) noexcept : claims_(std::move(other.claims_)), tag_(other.tag_) {}
        Claim &operator=(Claim &&other) noexcept {
            release();
            claims_ = std::move(other.claims_);
            tag_ = other.tag_;
            return *this;
        }
        ~Claim() { release(); }

        explicit operator bool() const { return claims_ != nullptr; }
        void release() noexcept {
            if (const auto claims = std::exchange(claims_, nullptr)) claims->free(tag_);
        }

    private:
        friend class TagClaims;
        Claim(std::shared_ptr<TagClaims> claims, Tag tag) : claims_(std::move(claims)), tag_(tag) {}
        std::shared_ptr<TagClaims> claims_;
        Tag tag_;
    };

    /// Returns an empty claim if the tag names an operation that has not ended.
    static Claim claim(const std::shared_ptr<TagClaims> &claims, Tag tag) {
        const std::lock_guard lock(claims->mutex_);
        return claims->tags_.insert(tag).second ? Claim(claims, tag) : Claim();
    }

private:
    void free(Tag tag) noexcept {
        const std::lock_guard lock(mutex_);
        tags_.erase(tag);
    }

    std::mutex mutex_;
    std::unordered_set<Tag> tags_;
};

}  // namespace pccl::peer
