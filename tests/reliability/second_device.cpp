// A second device for PyTorch, as CUDA is one, made of the CPU: its tensors lie in the CPU's memory, where the CPU's
// kernels compute them. Two things are otherwise. A tensor of the CPU among its own is refused, where CUDA would refuse
// it; and what rounds, rounds otherwise: products are added up in the opposite order, and the results of what has to
// round are moved at random, by up to `ulps` times 2^-23 of themselves. With `tf32`, the factors of products lose 13 of
// their 23 bits, as they would with CUDA's TF32.
//
// After PyTorch's own example of a device that registers itself (test/cpp_extensions in its repository).

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/impl/FakeGuardImpl.h>
#include <torch/library.h>

#include <cmath>
#include <deque>
#include <set>
#include <string>
#include <utility>

namespace {

using at::Tensor;
using std::optional;

constexpr auto kType = c10::DeviceType::PrivateUse1;
constexpr auto kKey = c10::DispatchKey::PrivateUse1;
const c10::Device kDevice(kType, 0);

int64_t ulps = 0;
bool tf32 = false;
at::Generator noise = at::make_generator<at::CPUGeneratorImpl>(1);

// CUDA takes indices that are on the CPU, and everybody copies.
const std::set<std::string> kMix{"index", "index_put", "index_put_", "_index_put_impl_"};
const std::set<std::string> kProducts{"mm", "bmm", "addmm", "baddbmm"};
const std::set<std::string> kRounded{
    "mm", "bmm", "addmm", "baddbmm", "_softmax", "_log_softmax", "logsumexp", "exp", "log", "pow", "sqrt", "rsqrt",
    "tanh", "gelu", "div", "sum", "mean", "var", "std", "native_batch_norm", "native_layer_norm"};

struct Allocator final : at::Allocator {
  at::DataPtr allocate(size_t n) override {
    auto held = std::make_unique<at::DataPtr>(c10::GetAllocator(c10::kCPU)->allocate(n));
    void* data = held->get();
    return {data, held.release(), [](void* context) { delete static_cast<at::DataPtr*>(context); }, kDevice};
  }
  void copy_data(void* to, const void* from, size_t n) const override { default_copy_data(to, from, n); }
} allocator;

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
} hooks;

// Memory of another device's tensor, which lives as long as the new storage does.
c10::Storage lent(const Tensor& owner, c10::Device device, at::Allocator* of) {
  auto* held = new c10::Storage(owner.storage());
  at::DataPtr data(held->mutable_data(), held, [](void* context) { delete static_cast<c10::Storage*>(context); }, device);
  return {c10::Storage::use_byte_size_t{}, held->nbytes(), std::move(data), of, /*resizable=*/true};
}

Tensor shaped(Tensor made, const Tensor& like) {
  made.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  return made;
}

Tensor on_cpu(const Tensor& there) {
  auto storage = lent(there, c10::kCPU, c10::GetAllocator(c10::kCPU));
  const c10::DispatchKeySet keys(c10::DispatchKey::CPU);
  return shaped(at::detail::make_tensor<c10::TensorImpl>(std::move(storage), keys, there.dtype()), there);
}

Tensor on_device(const Tensor& here) {
  auto storage = lent(here, kDevice, &allocator);
  return shaped(at::detail::make_tensor<c10::TensorImpl>(std::move(storage), c10::DispatchKeySet(kKey), here.dtype()), here);
}

Tensor view_of(const Tensor& base, const Tensor& like) {
  auto storage = c10::Storage(base.storage());
  return shaped(
      at::detail::make_tensor<c10::TensorImpl>(c10::TensorImpl::VIEW, std::move(storage), base.key_set(), like.dtype()), like);
}

Tensor shortened(const Tensor& value) {  // rounded to the ten bits that TF32 keeps
  return value.contiguous().view(at::kInt).add(0x1000).bitwise_and(~0x1fff).view(at::kFloat);
}

// One call of an operator: its tensors go to the CPU's kernel, and what comes out of it comes back.
class Call {
 public:
  explicit Call(const c10::OperatorHandle& op) : name_(op.schema().name().substr(6)) {}  // without aten::

  c10::IValue sent(const c10::IValue& value) {
    if (value.isTensor()) return sent(value.toTensor());
    if (value.isTensorList()) {
      c10::List<Tensor> list;
      for (const Tensor& each : value.toTensorVector()) list.push_back(sent(each));
      return list;
    }
    if (value.isOptionalTensorList()) {
      c10::List<optional<Tensor>> list;
      for (const optional<Tensor>& each : value.toOptionalTensorList())
        list.push_back(each ? optional<Tensor>(sent(*each)) : std::nullopt);
      return list;
    }
    if (value.isDevice()) {
      to_cpu_ = value.toDevice().is_cpu();
      return c10::Device(c10::kCPU);
    }
    return value;
  }

  // The CPU's kernels would add up in their own order.
  void reorder(c10::IValue* arguments) const {
    if (!kProducts.count(name_)) return;
    auto &a = arguments[name_.find("add") != std::string::npos], &b = (&a)[1];
    if (a.toTensor().scalar_type() != at::kFloat) return;
    a = a.toTensor().flip(-1), b = b.toTensor().flip(-2);
    if (tf32) a = shortened(a.toTensor()), b = shortened(b.toTensor());
  }

  void resize() const {  // what was written to an output that was too small for it
    for (const auto& [there, here] : known_)
      if (there.sizes() != here.sizes()) {
        there.unsafeGetTensorImpl()->set_storage_keep_dtype(lent(here, kDevice, &allocator));
        shaped(there, here);
      }
  }

  c10::IValue received(const c10::IValue& value) const {
    if (value.isTensor()) return received(value.toTensor());
    if (!value.isTensorList()) return value;
    c10::List<Tensor> list;
    for (const Tensor& each : value.toTensorVector()) list.push_back(received(each));
    return list;
  }

 private:
  Tensor sent(const Tensor& value) {
    if (!value.defined()) return value;
    if (value.device().type() != kType) {
      TORCH_CHECK(value.dim() == 0 || kMix.count(name_), name_, ": a tensor is on ", value.device(), ", another on ", kDevice);
      return value;
    }
    return known_.emplace_back(value, on_cpu(value)).second;
  }

  Tensor received(const Tensor& value) const {
    if (!value.defined()) return value;
    for (const auto& [there, here] : known_)
      if (here.is_same(value)) return round(value), there;
    for (const auto& [there, here] : known_)
      if (here.storage().unsafeGetStorageImpl() == value.storage().unsafeGetStorageImpl()) return view_of(there, value);
    round(value);
    return to_cpu_ ? value : on_device(value);
  }

  void round(const Tensor& value) const {
    if (ulps && value.scalar_type() == at::kFloat && kRounded.count(name_))
      value.mul_(at::randint(-ulps, ulps + 1, value.sizes(), noise, value.options()).mul_(std::ldexp(1.0, -23)).add_(1.0));
  }

  std::string name_;
  std::deque<std::pair<Tensor, Tensor>> known_;  // each tensor that came, and what the CPU's kernel gets
  bool to_cpu_ = false;
};

void by_the_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  Call call(op);
  const auto arguments = op.schema().arguments().size(), returns = op.schema().returns().size();
  auto* first = stack->data() + stack->size() - arguments;
  for (size_t i = 0; i < arguments; i++) first[i] = call.sent(first[i]);
  call.reorder(first);
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  call.resize();
  for (size_t i = stack->size() - returns; i < stack->size(); i++) (*stack)[i] = call.received((*stack)[i]);
}

Tensor empty(
    at::IntArrayRef size, optional<at::ScalarType> dtype, optional<at::Layout>, optional<at::Device>, optional<bool>,
    optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &allocator, c10::DispatchKeySet(kKey), c10::dtype_or_default(dtype), format);
}

Tensor empty_strided(
    at::IntArrayRef size, at::IntArrayRef stride, optional<at::ScalarType> dtype, optional<at::Layout>,
    optional<at::Device>, optional<bool>) {
  const c10::DispatchKeySet keys(kKey);
  return at::detail::empty_strided_generic(size, stride, &allocator, keys, c10::dtype_or_default(dtype));
}

Tensor copy_from(const Tensor& from, const Tensor& to, bool) {
  auto reached = [](const Tensor& value) { return value.device().type() == kType ? on_cpu(value) : value; };
  reached(to).copy_(reached(from));
  return to;
}

at::Scalar item(const Tensor& value) { return on_cpu(value).item(); }

}  // namespace

namespace at::detail {
C10_REGISTER_GUARD_IMPL(PrivateUse1, c10::impl::FakeGuardImpl<kType>);
}
REGISTER_ALLOCATOR(kType, &allocator)

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&by_the_cpu>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided);
  library.impl("_copy_from", &copy_from);
  library.impl("_local_scalar_dense", &item);
}

TORCH_LIBRARY(second, library) {
  at::RegisterPrivateUse1HooksInterface(&hooks);
  library.def("rounding(int ulps, bool tf32) -> ()", [](int64_t by, bool shorter) { ulps = by, tf32 = shorter; });
}
