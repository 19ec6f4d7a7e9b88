// A process group "hccl" over gloo: tensors of the device are passed to gloo as the CPU tensors that they are.
//
// Like the real one it rejects CPU tensors, supports the mean as a reduction, and cannot split a group.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>

namespace fake_npu {

at::Tensor on_host(const at::Tensor& tensor);

using Tensors = std::vector<at::Tensor>;
using TensorLists = std::vector<Tensors>;
using c10d::OpType;
using c10d::ReduceOp;

// gloo's work, waited for once: each wait copies the result of a reduce_scatter again, which would undo a mean.
struct Work final : c10d::Work {
  Work(c10::intrusive_ptr<c10d::Work> gloo, Tensors outputs, OpType type, std::function<void()> finish)
      : c10d::Work(-1, type), gloo_(std::move(gloo)), outputs_(std::move(outputs)), finish_(std::move(finish)) {
    std::vector<c10::Device> devices;
    if (!outputs_.empty()) devices.push_back(outputs_[0].device());
    future_ = c10::make_intrusive<c10::ivalue::Future>(c10::ListType::create(c10::TensorType::get()), devices);
  }

  bool isCompleted() override { return is_done_ || gloo_->isCompleted(); }
  bool isSuccess() const override { return is_done_ || gloo_->isSuccess(); }
  bool wait(std::chrono::milliseconds timeout) override {
    if (is_done_) return true;
    gloo_->wait(timeout);
    is_done_ = true;
    if (finish_) finish_();
    future_->markCompleted(c10::IValue(outputs_));
    return true;
  }
  void synchronize() override { wait(kNoTimeout); }
  Tensors result() override { return outputs_; }
  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override {
    wait(kNoTimeout);
    return future_;
  }

 private:
  c10::intrusive_ptr<c10d::Work> gloo_;
  Tensors outputs_;
  std::function<void()> finish_;
  c10::intrusive_ptr<c10::ivalue::Future> future_;
  bool is_done_ = false;
};

struct Hccl final : c10d::Backend {
  using Handle = c10::intrusive_ptr<c10d::Work>;

  Hccl(c10::intrusive_ptr<c10d::Backend> gloo, int rank, int size) : c10d::Backend(rank, size), gloo_(std::move(gloo)) {}

  const std::string getBackendName() const override { return "hccl"; }

  Handle broadcast(Tensors& tensors, const c10d::BroadcastOptions& options) override {
    auto host = checked(tensors);
    return work(gloo_->broadcast(host, options), tensors, OpType::BROADCAST);
  }

  Handle allreduce(Tensors& tensors, const c10d::AllreduceOptions& given) override {
    auto options = given;
    const bool is_mean = mean_to_sum(options.reduceOp);
    auto host = checked(tensors);
    return work(gloo_->allreduce(host, options), tensors, OpType::ALLREDUCE, divided(is_mean, host));
  }

  Handle allreduce_coalesced(Tensors& tensors, const c10d::AllreduceCoalescedOptions& given) override {
    c10d::AllreduceOptions options;
    options.reduceOp = given.reduceOp;
    for (auto& tensor : tensors) {
      Tensors one{tensor};
      allreduce(one, options)->wait();
    }
    return done(tensors, OpType::ALLREDUCE);
  }

  Handle reduce(Tensors& tensors, const c10d::ReduceOptions& options) override {
    auto host = checked(tensors);
    return work(gloo_->reduce(host, options), tensors, OpType::REDUCE);
  }

  Handle allgather(TensorLists& outputs, Tensors& inputs, const c10d::AllgatherOptions& options) override {
    auto out = hosts(outputs);
    auto in = checked(inputs);
    return work(gloo_->allgather(out, in, options), outputs[0], OpType::ALLGATHER);
  }

  Handle _allgather_base(at::Tensor& output, at::Tensor& input, const c10d::AllgatherOptions& options) override {
    check({input});
    auto out = on_host(output), in = on_host(input);
    return work(gloo_->_allgather_base(out, in, options), {output}, OpType::_ALLGATHER_BASE);
  }

  Handle allgather_into_tensor_coalesced(Tensors& outputs, Tensors& inputs, const c10d::AllgatherOptions& options) override {
    for (size_t i = 0; i < inputs.size(); i++) _allgather_base(outputs[i], inputs[i], options)->wait();
    return done(outputs, OpType::ALLGATHER);
  }

  Handle gather(TensorLists& outputs, Tensors& inputs, const c10d::GatherOptions& options) override {
    auto out = hosts(outputs);
    auto in = checked(inputs);
    return work(gloo_->gather(out, in, options), inputs, OpType::GATHER);
  }

  Handle scatter(Tensors& outputs, TensorLists& inputs, const c10d::ScatterOptions& options) override {
    auto out = checked(outputs);
    auto in = hosts(inputs);
    return work(gloo_->scatter(out, in, options), outputs, OpType::SCATTER);
  }

  Handle reduce_scatter(Tensors& outputs, TensorLists& inputs, const c10d::ReduceScatterOptions& given) override {
    auto options = given;
    const bool is_mean = mean_to_sum(options.reduceOp);
    auto out = checked(outputs);
    auto in = hosts(inputs);
    return work(gloo_->reduce_scatter(out, in, options), outputs, OpType::REDUCE_SCATTER, divided(is_mean, out));
  }

  Handle _reduce_scatter_base(at::Tensor& output, at::Tensor& input, const c10d::ReduceScatterOptions& given) override {
    auto options = given;
    const bool is_mean = mean_to_sum(options.reduceOp);
    check({input});
    auto out = on_host(output), in = on_host(input);
    return work(gloo_->_reduce_scatter_base(out, in, options), {output}, OpType::_REDUCE_SCATTER_BASE, divided(is_mean, {out}));
  }

  Handle reduce_scatter_tensor_coalesced(Tensors& outputs, Tensors& inputs, const c10d::ReduceScatterOptions& options) override {
    for (size_t i = 0; i < inputs.size(); i++) _reduce_scatter_base(outputs[i], inputs[i], options)->wait();
    return done(outputs, OpType::REDUCE_SCATTER);
  }

  Handle alltoall_base(at::Tensor& output, at::Tensor& input, std::vector<int64_t>& output_sizes,
                       std::vector<int64_t>& input_sizes, const c10d::AllToAllOptions& options) override {
    check({input});
    auto out = on_host(output), in = on_host(input);
    return work(gloo_->alltoall_base(out, in, output_sizes, input_sizes, options), {output}, OpType::ALLTOALL_BASE);
  }

  Handle send(Tensors& tensors, int rank, int tag) override {
    auto host = checked(tensors);
    return work(gloo_->send(host, rank, tag), tensors, OpType::SEND);
  }

  Handle recv(Tensors& tensors, int rank, int tag) override {
    auto host = checked(tensors);
    return work(gloo_->recv(host, rank, tag), tensors, OpType::RECV);
  }

  Handle barrier(const c10d::BarrierOptions& given) override {
    c10d::BarrierOptions options;  // without the device, which gloo does not support
    options.timeout = given.timeout;
    return gloo_->barrier(options);
  }

 private:
  c10::intrusive_ptr<c10d::Backend> gloo_;

  static void check(const Tensors& tensors) {
    for (const auto& tensor : tensors)
      TORCH_CHECK(tensor.is_privateuseone(), "hccl: No backend type associated with device type ", tensor.device().type());
  }

  static Tensors hosts(const Tensors& tensors) {
    Tensors host;
    for (const auto& tensor : tensors) host.push_back(on_host(tensor));
    return host;
  }

  static TensorLists hosts(const TensorLists& lists) {
    TensorLists host;
    for (const auto& tensors : lists) host.push_back(hosts(tensors));
    return host;
  }

  static Tensors checked(const Tensors& tensors) {
    check(tensors);
    return hosts(tensors);
  }

  static bool mean_to_sum(ReduceOp& op) {
    if (op != ReduceOp::AVG) return false;
    op = ReduceOp::SUM;
    return true;
  }

  std::function<void()> divided(bool is_mean, Tensors tensors) {
    if (!is_mean) return {};
    return [tensors, size = size_]() mutable {
      at::NoGradGuard guard;
      for (auto& tensor : tensors) at::isIntegralType(tensor.scalar_type(), true) ? tensor.div_(size, "trunc") : tensor.div_(size);
    };
  }

  static Handle work(Handle gloo, Tensors outputs, OpType type, std::function<void()> finish = {}) {
    return c10::make_intrusive<Work>(std::move(gloo), std::move(outputs), type, std::move(finish));
  }

  Handle done(Tensors outputs, OpType type) { return work(gloo_->barrier(), std::move(outputs), type); }
};

}  // namespace fake_npu
