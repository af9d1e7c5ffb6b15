// The memory of a tensor: where, how many elements of which type, and what keeps it alive.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include <pccl/pccl.h>

namespace pccl_python {

namespace nb = nanobind;

/// Contiguous host memory. Holds what it belongs to (and a buffer-protocol export of it, so that it cannot be resized) until it
/// is destroyed, with the GIL.
class View {
public:
    /// A view of known memory. `owner` keeps it alive: a PyTorch tensor, or None if the program does.
    View(nb::object owner, std::size_t address, std::size_t count, int datatype);
    View(View &&) noexcept = default;
    View &operator=(View &&) = delete;
    ~View();

    /// By the buffer protocol. `datatype` where the format does not say it. Raises PCCLTensorError, which names `what`.
    static View of_buffer(nb::object object, const std::string &what, bool writable, std::optional<int> datatype);
    /// By DLPack. The same errors.
    static View of_dlpack(nb::object object, const std::string &what, bool writable);

    void *data() const { return data_; }
    std::size_t count() const { return count_; }
    std::size_t bytes() const;
    pcclDataType_t datatype() const { return datatype_; }

private:
    View() = default;

    nb::object owner_;
    std::unique_ptr<Py_buffer> export_;  ///< where it was filled in: it may point into itself
    std::shared_ptr<void> array_;        ///< of DLPack
    void *data_ = nullptr;
    std::size_t count_ = 0;
    pcclDataType_t datatype_ = pcclUint8;
};

void bind_view(nb::module_ &module);

}  // namespace pccl_python
