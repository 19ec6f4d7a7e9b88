// A device "npu" on host memory, for PyTorch's PrivateUse1 slot: tensors, streams, random numbers, autocast and a process group.
//
// Its memory is the host's, and its arithmetic the CPU's (boxed fallback). Like a real device it does not mix its tensors with the CPU's,
// rejects float64 and the operators of a list, counts memory per device, and has its own random numbers.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/autocast_mode.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/DispatchStub.h>
#include <ATen/native/transformers/attention.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/extension.h>

#include <cstdlib>
#include <map>
#include <set>

#include "hccl.h"

namespace fake_npu {

constexpr c10::DeviceIndex MAX_DEVICES = 8;

c10::DeviceIndex device_count() {
  const char* given = std::getenv("FAKE_NPU_DEVICES");
  return given ? std::min<int>(std::atoi(given), MAX_DEVICES) : 2;
}

thread_local c10::DeviceIndex current = 0;

c10::DeviceIndex or_current(c10::DeviceIndex index) { return index < 0 ? current : index; }

std::map<std::string, int64_t> num_calls;  // calls per operator on the device
std::set<std::string> denied;              // operators without a kernel
bool is_float64_denied = false;

// ------------------------------------------------------------------------------------------------------------------------ memory

int64_t live_bytes[MAX_DEVICES], peak_bytes[MAX_DEVICES];

struct Allocator final : c10::Allocator {
  struct Block {
    void* data;
    int64_t num_bytes;
    c10::DeviceIndex device;
  };

  static void release(void* pointer) {
    auto* block = static_cast<Block*>(pointer);
    live_bytes[block->device] -= block->num_bytes;
    std::free(block->data);
    delete block;
  }

  c10::DataPtr allocate(size_t num_bytes) override {
    void* data = num_bytes ? std::aligned_alloc(64, (num_bytes + 63) / 64 * 64) : nullptr;
    live_bytes[current] += num_bytes;
    peak_bytes[current] = std::max(peak_bytes[current], live_bytes[current]);
    auto* block = new Block{data, static_cast<int64_t>(num_bytes), current};
    return {data, block, &release, c10::Device(c10::DeviceType::PrivateUse1, current)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, std::size_t num_bytes) const override { default_copy_data(to, from, num_bytes); }
} allocator;

REGISTER_ALLOCATOR(c10::DeviceType::PrivateUse1, &allocator);

// ----------------------------------------------------------------------------- devices, streams and events: all work is synchronous

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return c10::DeviceType::PrivateUse1; }
  c10::Device getDevice() const override { return {type(), current}; }
  void setDevice(c10::Device device) const override {
    TORCH_CHECK(device.index() < device_count(), "npu: invalid device ordinal ", device.index());
    uncheckedSetDevice(device);
  }
  void uncheckedSetDevice(c10::Device device) const noexcept override { current = or_current(device.index()); }
  c10::Device exchangeDevice(c10::Device device) const override {
    auto before = getDevice();
    setDevice(device);
    return before;
  }
  c10::DeviceIndex deviceCount() const noexcept override { return device_count(); }

  c10::Stream getStream(c10::Device device) const override {
    return c10::Stream(c10::Stream::DEFAULT, c10::Device(type(), or_current(device.index())));
  }
  c10::Stream getDefaultStream(c10::Device device) const override { return getStream(device); }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool) const override { return getStream(device); }
  c10::Stream getNewStream(c10::Device device, int) const override { return getStream(device); }
  c10::Stream exchangeStream(c10::Stream stream) const override { return stream; }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void synchronizeDevice(const c10::DeviceIndex) const override {}

  void record(void** event, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {
    *event = reinterpret_cast<void*>(1);
  }
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void synchronizeEvent(void*) const override {}
  double elapsedTime(void*, void*, const c10::DeviceIndex) const override { return 0.0; }
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

// ----------------------------------------------------------------------------------------------------------------- random numbers

struct Generator final : at::CPUGeneratorImpl {
  explicit Generator(c10::DeviceIndex index) {
    device_ = c10::Device(c10::DeviceType::PrivateUse1, index);
    key_set_ = c10::DispatchKeySet(c10::DispatchKey::PrivateUse1);
  }
};

const at::Generator& default_generator(c10::DeviceIndex index) {
  static std::vector<at::Generator> generators = [] {
    std::vector<at::Generator> made;
    for (c10::DeviceIndex i = 0; i < device_count(); i++) made.push_back(at::make_generator<Generator>(i));
    return made;
  }();
  return generators.at(or_current(index));
}

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return device_count() > 0; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return device_count(); }
  c10::DeviceIndex getCurrentDevice() const override { return current; }
  void setCurrentDevice(c10::DeviceIndex index) const override { Guard().setDevice({c10::DeviceType::PrivateUse1, index}); }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex index) const override { return std::exchange(current, or_current(index)); }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex index) const override { return exchangeDevice(index); }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex index) const override { return default_generator(index); }
  at::Generator getNewGenerator(c10::DeviceIndex index) const override { return at::make_generator<Generator>(or_current(index)); }
  at::Allocator* getPinnedMemoryAllocator() const override { return c10::GetAllocator(c10::DeviceType::CPU); }
  bool isPinnedPtr(const void*) const override { return false; }
  at::Device getDeviceFromPtr(void*) const override { return {c10::DeviceType::PrivateUse1, current}; }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t num_bytes) const override {
    auto* impl = storage.unsafeGetStorageImpl();
    c10::DeviceGuard guard(impl->device());
    auto data = impl->allocator()->allocate(num_bytes);
    if (impl->data() && num_bytes) std::memcpy(data.get(), impl->data(), std::min(num_bytes, impl->nbytes()));
    impl->set_data_ptr_noswap(std::move(data));
    impl->set_nbytes(num_bytes);
  }
} hooks;

// ------------------------------------------------------------------- operators required by the fallback, and those outside it

using c10::IntArrayRef;
using std::optional;

at::Tensor on_host(const at::Tensor& tensor) {
  if (!tensor.defined() || !tensor.is_privateuseone()) return tensor;
  auto options = at::TensorOptions().dtype(tensor.dtype()).device(at::kCPU);
  if (tensor.numel() == 0) return at::empty_strided(tensor.sizes(), tensor.strides(), options);
  at::Tensor keep = tensor.detach();  // keeps the bytes alive while a CPU tensor refers to them
  auto seen = at::from_blob(keep.data_ptr(), tensor.sizes(), tensor.strides(), [keep](void*) {}, options);
  if (tensor.is_conj()) seen._set_conj(true);
  if (tensor.is_neg()) seen._set_neg(true);
  return seen;
}

void check_dtype(at::ScalarType dtype) {
  TORCH_CHECK(!is_float64_denied || (dtype != at::kDouble && dtype != at::kComplexDouble), "npu does not support float64");
}

at::Tensor empty(IntArrayRef size, optional<at::ScalarType> dtype, optional<at::Layout>, optional<at::Device> device,
                 optional<bool>, optional<at::MemoryFormat> format) {
  c10::OptionalDeviceGuard guard(device);
  check_dtype(c10::dtype_or_default(dtype));
  c10::DispatchKeySet keys(c10::DispatchKey::PrivateUse1);
  return at::detail::empty_generic(size, &allocator, keys, c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(IntArrayRef size, IntArrayRef stride, optional<at::ScalarType> dtype, optional<at::Layout>,
                         optional<at::Device> device, optional<bool>) {
  c10::OptionalDeviceGuard guard(device);
  check_dtype(c10::dtype_or_default(dtype));
  c10::DispatchKeySet keys(c10::DispatchKey::PrivateUse1);
  return at::detail::empty_strided_generic(size, stride, &allocator, keys, c10::dtype_or_default(dtype));
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
  on_host(to).copy_(on_host(from));
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  to.resize_(from.sizes());
  return copy_from(from, to, false);
}

at::Scalar local_scalar_dense(const at::Tensor& tensor) { return at::_local_scalar_dense(on_host(tensor)); }

const at::Tensor& resize(const at::Tensor& tensor, c10::SymIntArrayRef size, optional<at::MemoryFormat> format) {
  return at::native::resize_(tensor, C10_AS_INTARRAYREF_SLOW(size), format);
}

at::Tensor view(const at::Tensor& tensor, c10::SymIntArrayRef size) {
  return at::native::view(tensor, C10_AS_INTARRAYREF_SLOW(size));
}

at::Tensor reshape_alias(const at::Tensor& tensor, c10::SymIntArrayRef size, c10::SymIntArrayRef stride) {
  return at::native::_reshape_alias(tensor, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride));
}

at::Tensor& set_storage_offset(at::Tensor& tensor, at::Storage storage, int64_t offset, IntArrayRef size, IntArrayRef stride) {
  tensor.unsafeGetTensorImpl()->set_storage_keep_dtype(storage);
  tensor.unsafeGetTensorImpl()->set_storage_offset(offset);
  auto strides = stride.data() ? c10::fromIntArrayRefSlow(stride) : c10::SymIntArrayRef();
  at::native::as_strided__symint(tensor, c10::fromIntArrayRefSlow(size), strides, offset);
  return tensor;
}

at::Tensor& set_storage(at::Tensor& tensor, at::Storage storage) {
  int64_t size = storage.nbytes() / tensor.itemsize();
  return set_storage_offset(tensor, storage, 0, {size}, {1});
}

// Called by `param.data = x.to("npu")`; torch_npu returns the same.
bool has_compatible_shallow_copy_type(const at::Tensor&, const at::Tensor&) { return true; }

void record_stream(at::Tensor&, c10::Stream) {}

// 0 is the composite: the CPU's fused attention is on the list of operators without an NPU kernel.
int64_t fused_sdp_choice(const at::Tensor&, const at::Tensor&, const at::Tensor&, const optional<at::Tensor>&, double, bool,
                         optional<double>, bool) {
  return 0;
}

at::Tensor on_device(const at::Tensor& tensor, c10::Device device) { return tensor.defined() ? tensor.to(device) : tensor; }

at::Tensor convolution(const at::Tensor& x, const at::Tensor& weight, const optional<at::Tensor>& bias, IntArrayRef stride,
                       IntArrayRef padding, IntArrayRef dilation, bool transposed, IntArrayRef output_padding, int64_t groups) {
  optional<at::Tensor> host_bias;
  if (bias && bias->defined()) host_bias = on_host(*bias);
  auto y = at::convolution(on_host(x), on_host(weight), host_bias, stride, padding, dilation, transposed, output_padding, groups);
  return on_device(y, x.device());
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& gradient, const at::Tensor& x, const at::Tensor& weight, IntArrayRef stride, IntArrayRef padding,
    IntArrayRef dilation, bool transposed, IntArrayRef output_padding, int64_t groups, std::array<bool, 3> wanted) {
  std::vector<int64_t> bias_size{transposed ? weight.size(1) * groups : weight.size(0)};
  auto [of_x, of_weight, of_bias] =
      at::convolution_backward(on_host(gradient), on_host(x), on_host(weight), bias_size, stride, padding, dilation, transposed,
                               output_padding, groups, wanted);
  return {on_device(of_x, x.device()), on_device(of_weight, x.device()), on_device(of_bias, x.device())};
}

// ------------------------------------------------------------------------------------------------------------ every other operator

// Rejects operands on several devices, as accelerators do; scalars and indices may be on the CPU. Returns the device.
optional<c10::Device> check_devices(const std::string& name, at::ArrayRef<c10::IValue> arguments) {
  static const std::set<std::string> takes_both{"aten::index.Tensor", "aten::index_put_", "aten::_index_put_impl_", "aten::_to_copy"};
  optional<c10::Device> device;
  bool is_cpu_seen = false;
  auto see = [&](const at::Tensor& tensor) {
    if (!tensor.defined()) return;
    if (tensor.is_privateuseone()) {
      TORCH_CHECK(!device || *device == tensor.device(), name, ": tensors on ", *device, " and ", tensor.device());
      device = tensor.device();
    } else if (tensor.is_cpu() && tensor.dim() > 0) {
      is_cpu_seen = true;
    }
  };
  for (const auto& argument : arguments) {
    if (argument.isTensor()) see(argument.toTensor());
    if (argument.isTensorList())
      for (const at::Tensor& tensor : argument.toTensorVector()) see(tensor);
    if (argument.isDevice() && argument.toDevice().is_privateuseone() && !device) device = argument.toDevice();
  }
  TORCH_CHECK(!(device && is_cpu_seen) || takes_both.count(name),
              "Expected all tensors to be on the same device, but found at least two devices, npu and cpu! (", name, ")");
  return device;
}

void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto name = c10::toString(op.operator_name());
  TORCH_CHECK_NOT_IMPLEMENTED(!denied.count(name), "npu has no kernel for ", name);
  num_calls[name]++;
  const auto& parameters = op.schema().arguments();
  const size_t begin = stack->size() - parameters.size();
  const auto device = check_devices(name, at::ArrayRef<c10::IValue>(*stack).slice(begin));
  // The CPU kernel samples from a CPU generator, which starts with the device generator's state and returns its own.
  at::Generator own, twin;
  for (size_t i = 0; i < parameters.size(); i++) {
    auto& argument = (*stack)[begin + i];
    if (parameters[i].type()->str().find("Generator") == std::string::npos) continue;
    own = argument.isGenerator() ? argument.toGenerator() : default_generator(device ? device->index() : current);
    if (!own.device().is_privateuseone()) break;
    twin = at::make_generator<at::CPUGeneratorImpl>();
    twin.set_state(own.get_state());
    argument = twin;
    break;
  }
  at::native::cpu_fallback(op, stack);
  if (twin.defined()) own.set_state(twin.get_state());
}

}  // namespace fake_npu

namespace at::native {
REGISTER_PRIVATEUSE1_DISPATCH(_fused_sdp_choice_stub, &fake_npu::fused_sdp_choice);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &fake_npu::empty);
  m.impl("empty_strided", &fake_npu::empty_strided);
  m.impl("_copy_from", &fake_npu::copy_from);
  m.impl("_copy_from_and_resize", &fake_npu::copy_from_and_resize);
  m.impl("_local_scalar_dense", &fake_npu::local_scalar_dense);
  m.impl("resize_", &fake_npu::resize);
  m.impl("as_strided", &at::native::as_strided_tensorimpl);
  m.impl("view", &fake_npu::view);
  m.impl("_reshape_alias", &fake_npu::reshape_alias);
  m.impl("unfold", &at::native::unfold);
  m.impl("view_as_real", &at::native::view_as_real);
  m.impl("view_as_complex", &at::native::view_as_complex);
  m.impl("set_.source_Storage_storage_offset", &fake_npu::set_storage_offset);
  m.impl("set_.source_Storage", &fake_npu::set_storage);
  m.impl("set_.source_Tensor", &at::native::set_tensor_);
  m.impl("_has_compatible_shallow_copy_type", &fake_npu::has_compatible_shallow_copy_type);
  m.impl("convolution_overrideable", &fake_npu::convolution);
  m.impl("convolution_backward_overrideable", &fake_npu::convolution_backward);
  m.impl("record_stream", &fake_npu::record_stream);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&fake_npu::fallback>()); }

// Autocast by PyTorch's lists, without the operators whose dtype torch_npu leaves unchanged (tests/npu_wheel).
using namespace at;
using namespace at::autocast;

namespace fake_npu {

const std::set<std::string> kNotListed = {
    "aten::_upsample_bicubic2d_aa", "aten::_upsample_bilinear2d_aa", "aten::_upsample_nearest_exact1d",
    "aten::_upsample_nearest_exact2d", "aten::_upsample_nearest_exact3d", "aten::linalg_vecdot", "aten::rms_norm",
    "aten::upsample_bicubic2d", "aten::upsample_bilinear2d", "aten::upsample_linear1d", "aten::upsample_nearest1d",
    "aten::upsample_nearest2d", "aten::upsample_nearest3d", "aten::upsample_trilinear3d", "aten::vdot"};

struct Lists {
  torch::Library& library;

  template <class Name, class Function>
  void impl(Name selective, Function* function) {
    const char* name = selective;
    if (!kNotListed.count(name)) library.impl(name, function);
  }
};

}  // namespace fake_npu

#define LOWER(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, lower_precision_fp)
#define FLOAT32(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32)
#define FLOAT32_OUTPUT(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32_set_opt_dtype)
#define PROMOTE(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, promote)
TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) { m.fallback(torch::CppFunction::makeFallthrough()); }
TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, library) {
  fake_npu::Lists m{library};
  AT_FORALL_LOWER_PRECISION_FP(LOWER)
  AT_FORALL_FP32(FLOAT32)
  AT_FORALL_FP32_SET_OPT_DTYPE(FLOAT32_OUTPUT)
  AT_FORALL_DIFFERENT_REDISPATCH_SIGNATURE(KERNEL_DIFFERENT_REDISPATCH_SIGNATURE_PRIVATEUSEONE)
  AT_FORALL_PROMOTE(PROMOTE)
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  namespace py = pybind11;
  at::RegisterPrivateUse1HooksInterface(&fake_npu::hooks);
  m.def("device_count", &fake_npu::device_count);
  m.def("current_device", [] { return fake_npu::current; });
  m.def("set_device", [](int index) {
    fake_npu::Guard().setDevice({c10::DeviceType::PrivateUse1, static_cast<c10::DeviceIndex>(index)});
  });
  m.def("default_generator", [](int index) { return fake_npu::default_generator(index); });
  m.def("memory", [](int index) { return std::make_pair(fake_npu::live_bytes[index], fake_npu::peak_bytes[index]); });
  m.def("num_calls", [] { return fake_npu::num_calls; });
  m.def("deny", [](std::set<std::string> names, bool float64) {
    fake_npu::denied = std::move(names);
    fake_npu::is_float64_denied = float64;
  });
  m.def(
      "make_hccl",
      [](c10::intrusive_ptr<c10d::Backend> gloo, int rank, int size) -> c10::intrusive_ptr<c10d::Backend> {
        return c10::make_intrusive<fake_npu::Hccl>(std::move(gloo), rank, size);
      },
      py::call_guard<py::gil_scoped_release>());
}
