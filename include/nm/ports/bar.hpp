// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// A device's registers. A driver is a template on its BAR: the real one is memory that the device listens on; a test's
// counts, or is a model of the device.

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace nm {

/// Registers by their offset. A small trivially copyable value: queues keep a copy of it for their doorbell.
template <class B>
concept bar_access = std::is_trivially_copyable_v<B> && requires(const B& b, std::size_t at, std::uint64_t v) {
    { b.template read<std::uint8_t>(at) } noexcept -> std::same_as<std::uint8_t>;
    { b.template read<std::uint16_t>(at) } noexcept -> std::same_as<std::uint16_t>;
    { b.template read<std::uint32_t>(at) } noexcept -> std::same_as<std::uint32_t>;
    { b.template write<std::uint8_t>(at, std::uint8_t(v)) } noexcept;
    { b.template write<std::uint16_t>(at, std::uint16_t(v)) } noexcept;
    { b.template write<std::uint32_t>(at, std::uint32_t(v)) } noexcept;
    { b.size() } noexcept -> std::same_as<std::size_t>;
};

class vfio_bus;

/// A BAR that is mapped. All offsets are the driver's own, or were compared with size() by it.
class mmio_bar {
public:
    using bus = vfio_bus;  ///< how a port comes by one
    mmio_bar() = default;
    mmio_bar(std::byte* at, std::size_t size) noexcept : at_(at), size_(size) {}

    template <class Word>
    [[nodiscard]] [[gnu::always_inline]] Word read(std::size_t at) const noexcept {
        return *reinterpret_cast<const volatile Word*>(at_ + at);
    }
    template <class Word>
    [[gnu::always_inline]] void write(std::size_t at, Word value) const noexcept {
        *reinterpret_cast<volatile Word*>(at_ + at) = value;
    }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }

private:
    std::byte* at_ = nullptr;
    std::size_t size_ = 0;
};
static_assert(bar_access<mmio_bar>);

/// What a datasheet says of a register: read/write, read only, write only, cleared by reading, cleared by writing ones.
enum class reg_mode { rw, ro, wo, rc, rw1c };

/// A register of 32 bits. Reading one that is write only, or writing one that is read only, does not compile.
template <reg_mode Mode>
struct reg {
    std::uint32_t at;
};
/// One of several: reg_array<rw>{0x2800, 0x100}[q].
template <reg_mode Mode>
struct reg_array {
    std::uint32_t at;
    std::uint32_t stride;
    [[nodiscard]] constexpr reg<Mode> operator[](unsigned i) const noexcept { return {at + i * stride}; }
};

template <bar_access B, reg_mode Mode>
    requires(Mode != reg_mode::wo)
[[nodiscard]] [[gnu::always_inline]] inline std::uint32_t read(const B& bar, reg<Mode> r) noexcept {
    return bar.template read<std::uint32_t>(r.at);
}
template <bar_access B, reg_mode Mode>
    requires(Mode != reg_mode::ro && Mode != reg_mode::rc)
[[gnu::always_inline]] inline void write(const B& bar, reg<Mode> r, std::uint32_t value) noexcept {
    bar.template write<std::uint32_t>(r.at, value);
}
template <bar_access B>
inline void set_bits(const B& bar, reg<reg_mode::rw> r, std::uint32_t bits) noexcept { write(bar, r, read(bar, r) | bits); }
template <bar_access B>
inline void clear_bits(const B& bar, reg<reg_mode::rw> r, std::uint32_t bits) noexcept { write(bar, r, read(bar, r) & ~bits); }

/// Between descriptors in memory and the doorbell that tells the device of them (docs/memory-order.md, P2). x86 keeps stores
/// to memory before later ones to registers by itself; the compiler must too.
[[gnu::always_inline]] inline void doorbell_barrier() noexcept {
#if defined(__aarch64__)
    asm volatile("dmb oshst" ::: "memory");
#else
    std::atomic_thread_fence(std::memory_order_release);
#endif
}

}  // namespace nm
