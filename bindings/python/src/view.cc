#include "view.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <cstring>
#include <string_view>

namespace pccl_python {

namespace {

/// Returns the type of a number of `bytes` bytes. `kind` is 'i'nteger, 'u'nsigned, 'f'loat or 'b'float.
std::optional<pcclDataType_t> type_of(char kind, std::size_t bytes) {
    switch (kind) {
    case 'i':
        return bytes == 1   ? pcclInt8
               : bytes == 2 ? pcclInt16
               : bytes == 4 ? pcclInt32
               : bytes == 8 ? std::optional(pcclInt64)
                            : std::nullopt;
    case 'u':
        return bytes == 1   ? pcclUint8
               : bytes == 2 ? pcclUint16
               : bytes == 4 ? pcclUint32
               : bytes == 8 ? std::optional(pcclUint64)
                            : std::nullopt;
    case 'f': return bytes == 2 ? pcclFloat16 : bytes == 4 ? pcclFloat : bytes == 8 ? std::optional(pcclDouble) : std::nullopt;
    case 'b': return bytes == 2 ? std::optional(pcclBFloat16) : std::nullopt;
    default: return std::nullopt;
    }
}

/// Returns the type of a format of the struct module: one number in native byte order.
std::optional<pcclDataType_t> type_of_format(const char *format, std::size_t bytes) {
    std::string_view text = format ? format : "B";
    if (!text.empty() && std::string_view("@=<").find(text[0]) != std::string_view::npos) text.remove_prefix(1);
    if (text.size() != 1) return std::nullopt;
    if (std::string_view("bhilqn").find(text[0]) != std::string_view::npos) return type_of('i', bytes);
    if (std::string_view("BHILQN").find(text[0]) != std::string_view::npos) return type_of('u', bytes);
    if (std::string_view("efd").find(text[0]) != std::string_view::npos) return type_of('f', bytes);
    return std::nullopt;
}

/// Raises an exception of the package, so that programs may catch what version 1 raised.
[[noreturn]] void refuse(const char *type, const std::string &why) {
    const nb::object error = nb::module_::import_("pccl._tensor_errors").attr(type);
    PyErr_SetString(error.ptr(), why.c_str());
    throw nb::python_error();
}
[[noreturn]] void refuse_tensor(const std::string &why) { refuse("PCCLTensorError", why); }
[[noreturn]] void refuse_type(const std::string &why) { refuse("PCCLTensorTypeError", why); }

[[noreturn]] void not_supported(const std::string &what, const std::string &type) {
    refuse_type(what + " has elements of type " + type + ", which are not supported: see pccl.DataType");
}

[[noreturn]] void not_contiguous(const std::string &what) {
    refuse_tensor(what + " is not contiguous: make it so (.contiguous(), numpy.ascontiguousarray) and copy the result back");
}

}  // namespace

View::View(nb::object owner, std::size_t address, std::size_t count, int datatype)
    : owner_(std::move(owner)), data_(reinterpret_cast<void *>(address)), count_(count),
      datatype_(static_cast<pcclDataType_t>(datatype)) {}

std::size_t View::bytes() const {
    constexpr std::size_t kSizes[] = {1, 1, 2, 2, 4, 4, 8, 8, 2, 2, 4, 8};
    return count_ * kSizes[datatype_];
}

View::~View() {
    if (export_) PyBuffer_Release(export_.get());
}

View View::of_buffer(nb::object object, const std::string &what, bool writable, std::optional<int> datatype) {
    View view;
    auto held = std::make_unique<Py_buffer>();
    if (PyObject_GetBuffer(object.ptr(), held.get(), PyBUF_FORMAT | PyBUF_STRIDES | (writable ? PyBUF_WRITABLE : 0)) != 0) {
        const std::string why = nb::python_error().what();
        refuse_tensor(what + (writable ? " cannot be written to: " : " cannot be read: ") + why);
    }
    const Py_buffer &memory = *held;
    view.export_ = std::move(held);
    if (!PyBuffer_IsContiguous(&memory, 'C')) not_contiguous(what);
    const auto type = datatype ? static_cast<pcclDataType_t>(*datatype)
                               : type_of_format(memory.format, static_cast<std::size_t>(memory.itemsize));
    if (!type) not_supported(what, std::string("'") + (memory.format ? memory.format : "") + "'");
    view.owner_ = std::move(object);
    view.data_ = memory.buf;
    view.count_ = memory.itemsize == 0 ? 0 : static_cast<std::size_t>(memory.len / memory.itemsize);
    view.datatype_ = *type;
    return view;
}

View View::of_dlpack(nb::object object, const std::string &what, bool writable) {
    // A writable view is requested as such, so that a read-only array is rejected.
    using Readable = nb::ndarray<nb::ro>;
    using Writable = nb::ndarray<>;
    View view;
    const auto take = [&](auto array) {
        if (array.device_type() != nb::device::cpu::value && array.device_type() != nb::device::cuda_host::value) {
            refuse_tensor(what + " is not in host memory: this build of the library takes nothing else");
        }
        std::int64_t expected = 1;
        for (std::size_t i = array.size() == 0 ? 0 : array.ndim(); i-- > 0;) {
            if (array.shape(i) != 1 && array.stride(i) != expected) not_contiguous(what);
            expected *= static_cast<std::int64_t>(array.shape(i));
        }
        const auto code = static_cast<nb::dlpack::dtype_code>(array.dtype().code);
        const char kind = code == nb::dlpack::dtype_code::Int      ? 'i'
                          : code == nb::dlpack::dtype_code::UInt   ? 'u'
                          : code == nb::dlpack::dtype_code::Float  ? 'f'
                          : code == nb::dlpack::dtype_code::Bfloat ? 'b'
                                                                   : '?';
        const bool whole_bytes = array.dtype().lanes == 1 && array.dtype().bits % 8 == 0;
        const auto type = whole_bytes ? type_of(kind, array.dtype().bits / 8u) : std::nullopt;
        if (!type)
            not_supported(what, "DLPack code " + std::to_string(array.dtype().code) + ", " + std::to_string(array.dtype().bits) +
                                    " bits");
        view.data_ = const_cast<void *>(static_cast<const void *>(array.data()));
        view.count_ = array.size();
        view.datatype_ = *type;
        view.array_ = std::make_shared<decltype(array)>(std::move(array));
    };
    if (writable) {
        Writable array;
        if (!nb::try_cast(object, array, false)) refuse_type(what + " cannot be written to through DLPack");
        take(std::move(array));
    } else {
        Readable array;
        if (!nb::try_cast(object, array, false)) refuse_type(what + " cannot be read through DLPack");
        take(std::move(array));
    }
    view.owner_ = std::move(object);
    return view;
}

void bind_view(nb::module_ &module) {
    nb::class_<View>(module, "View")
        .def(nb::init<nb::object, std::size_t, std::size_t, int>(), nb::arg("owner").none(), nb::arg("address"), nb::arg("count"),
             nb::arg("datatype"))
        .def_static("of_buffer", &View::of_buffer, nb::arg("object"), nb::arg("what"), nb::arg("writable"),
                    nb::arg("datatype").none() = nb::none())
        .def_static("of_dlpack", &View::of_dlpack, nb::arg("object"), nb::arg("what"), nb::arg("writable"))
        .def_prop_ro("address", [](const View &view) { return reinterpret_cast<std::size_t>(view.data()); })
        .def_prop_ro("count", &View::count)
        .def_prop_ro("datatype", [](const View &view) { return static_cast<int>(view.datatype()); });
}

}  // namespace pccl_python
