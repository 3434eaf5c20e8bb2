// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// A BAR that writes down what is done with it. nic<Device, recording_bar<mmio_bar>> is a port whose doorbells can be counted;
// and with recorder::trace() on, everything that a driver and its device do to each other becomes text, which a model of the
// device can be held against (tests/model/nic_trace_test.cpp).
//
// A trace has a line for each event, its numbers in hexadecimal:
//   device D VENDOR DEVICE      there is a device D
//   map W D IOVA SIZE           memory W, zeroed, is the device's at IOVA
//   unmap D IOVA
//   master D 0|1, reset D       by the bus
//   irqs D KIND COUNT           KIND as VFIO counts them
//   r D OFFSET BYTES VALUE      read by the driver; w: written
//   m W OFFSET BYTES...         memory that the driver has changed before the next event
//   d W OFFSET BYTES...         memory that the device has changed during the last one

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "nm/ports/nic_device.hpp"

namespace nm {

/// What was done with the BARs of one or more devices. One thread at a time.
class recorder {
public:
    /// A device's number, for the others.
    unsigned add_device(const sys::pci_ids& ids) {
        devices_.emplace_back();
        line("device %x %x %x\n", index(devices_.size() - 1), ids.vendor, ids.device);
        return index(devices_.size() - 1);
    }

    [[nodiscard]] std::uint64_t reads(unsigned device, std::size_t at) const noexcept { return of(devices_[device].reads, at); }
    [[nodiscard]] std::uint64_t writes(unsigned device, std::size_t at) const noexcept { return of(devices_[device].writes, at); }
    [[nodiscard]] std::uint64_t reads(unsigned device) const noexcept { return sum(devices_[device].reads); }
    [[nodiscard]] std::uint64_t writes(unsigned device) const noexcept { return sum(devices_[device].writes); }
    void clear_counts() {
        for (counts& c : devices_) c.reads.clear(), c.writes.clear();
    }

    /// From now on (or no longer) everything is written down. To be on before devices are opened, if it is to be replayed.
    void trace(bool on) noexcept { tracing_ = on; }
    [[nodiscard]] const std::string& text() const noexcept { return text_; }
    /// Memory that is mapped for a device, but that it has no business with: netmap's rings.
    void ignore(const void* memory, std::size_t size) {
        const auto* at = static_cast<const std::byte*>(memory);
        ignored_.push_back({at, at + size});
    }

    // The bus's part.
    void mapped(unsigned device, void* memory, std::size_t size, std::uint64_t iova) {
        if (!tracing_) return;
        auto w = std::find_if(watched_.begin(), watched_.end(), [&](const watch& x) { return x.at == memory && x.before.size() == size; });
        if (w == watched_.end()) {
            watched_.push_back({static_cast<std::byte*>(memory), std::vector<std::byte>(size)});
            w = watched_.end() - 1;
        }
        maps_.push_back({device, iova, static_cast<std::size_t>(w - watched_.begin())});
        line("map %x %x %llx %llx\n", index(maps_.back().memory), device, wide(iova), wide(size));
    }
    void unmapped(unsigned device, std::uint64_t iova) {
        changes('m');
        line("unmap %x %llx\n", device, wide(iova));
        const auto m = std::find_if(maps_.begin(), maps_.end(), [&](const mapping& x) { return x.device == device && x.iova == iova; });
        if (m == maps_.end()) return;
        const std::size_t memory = m->memory;
        maps_.erase(m);
        if (std::none_of(maps_.begin(), maps_.end(), [memory](const mapping& x) { return x.memory == memory; })) watched_[memory] = {};
    }
    template <class... Numbers>
    void event(const char* format, Numbers... numbers) {
        changes('m');
        line(format, numbers...);
    }
    /// After the bus did something that the device may have answered with DMA.
    void settle() { changes('d'); }

    // The BAR's part.
    void before() noexcept { changes('m'); }
    void read(unsigned device, std::size_t at, unsigned bytes, std::uint32_t value) noexcept {
        ++count(devices_[device].reads, at);
        line("r %x %llx %x %x\n", device, wide(at), bytes, value);
        changes('d');
    }
    void written(unsigned device, std::size_t at, unsigned bytes, std::uint32_t value) noexcept {
        ++count(devices_[device].writes, at);
        line("w %x %llx %x %x\n", device, wide(at), bytes, value);
        changes('d');
    }

private:
    struct counts {
        std::vector<std::uint64_t> reads, writes;  // by offset / 4
    };
    struct watch {
        std::byte* at;
        std::vector<std::byte> before;
    };
    struct mapping {
        unsigned device;
        std::uint64_t iova;
        std::size_t memory;
    };
    struct range {
        const std::byte *from, *to;
    };

    [[nodiscard]] static unsigned index(std::size_t i) noexcept { return static_cast<unsigned>(i); }
    [[nodiscard]] static unsigned long long wide(std::uint64_t v) noexcept { return v; }
    [[nodiscard]] static std::uint64_t& count(std::vector<std::uint64_t>& v, std::size_t at) {
        if (v.size() <= at / 4) v.resize(at / 4 + 1);
        return v[at / 4];
    }
    [[nodiscard]] static std::uint64_t of(const std::vector<std::uint64_t>& v, std::size_t at) noexcept {
        return at / 4 < v.size() ? v[at / 4] : 0;
    }
    [[nodiscard]] static std::uint64_t sum(const std::vector<std::uint64_t>& v) noexcept {
        std::uint64_t n = 0;
        for (const std::uint64_t c : v) n += c;
        return n;
    }
    template <class... Numbers>
    void line(const char* format, Numbers... numbers) {
        if (!tracing_) return;
        std::array<char, 96> s;
        const int n = std::snprintf(s.data(), s.size(), format, numbers...);
        text_.append(s.data(), static_cast<std::size_t>(n));
    }
    [[nodiscard]] bool ignored(const std::byte* p) const noexcept {
        return std::any_of(ignored_.begin(), ignored_.end(), [p](const range& r) { return p >= r.from && p < r.to; });
    }
    // Words of 8 bytes that are not what they were; those that follow each other on one line.
    void changes(char who) {
        if (!tracing_) return;
        constexpr std::size_t word = 8, page = 4096;
        for (std::size_t w = 0; w < watched_.size(); ++w) {
            watch& x = watched_[w];
            std::size_t end = 0;  // of the line that is being written
            for (std::size_t p = 0; p < x.before.size(); p += page) {
                const std::size_t in_page = std::min(page, x.before.size() - p);
                if (std::memcmp(x.at + p, x.before.data() + p, in_page) == 0 || ignored(x.at + p)) continue;
                for (std::size_t o = p; o < p + in_page; o += word) {
                    if (std::memcmp(x.at + o, x.before.data() + o, word) == 0) continue;
                    if (o != end || end == 0) {
                        if (end != 0) text_ += '\n';
                        line("%c %x %llx ", who, index(w), wide(o));
                    }
                    for (std::size_t i = o; i < o + word; ++i) line("%02x", static_cast<unsigned>(x.at[i]));
                    std::memcpy(x.before.data() + o, x.at + o, word);
                    end = o + word;
                }
            }
            if (end != 0) text_ += '\n';
        }
    }

    std::vector<counts> devices_;
    std::vector<watch> watched_;  // none is taken out: its place is its number
    std::vector<mapping> maps_;
    std::vector<range> ignored_;
    std::string text_;
    bool tracing_ = false;
};

template <class Bus>
class recording_bus;

template <bar_access Bar>
class recording_bar {
public:
    using bus = recording_bus<typename Bar::bus>;
    recording_bar() = default;
    recording_bar(const Bar& bar, recorder& r, unsigned device) noexcept : bar_(bar), recorder_(&r), device_(device) {}

    template <class Word>
    [[nodiscard]] Word read(std::size_t at) const noexcept {
        recorder_->before();
        const Word v = bar_.template read<Word>(at);
        recorder_->read(device_, at, sizeof v, v);
        return v;
    }
    template <class Word>
    void write(std::size_t at, Word value) const noexcept {
        recorder_->before();
        bar_.template write<Word>(at, value);
        recorder_->written(device_, at, sizeof value, value);
    }
    [[nodiscard]] std::size_t size() const noexcept { return bar_.size(); }

private:
    Bar bar_;
    recorder* recorder_ = nullptr;
    unsigned device_ = 0;
};

/// The recorder is shared: it outlives the bus, so that it can be looked at afterwards.
template <class Bus>
class recording_bus {
public:
    using bar_type = recording_bar<typename Bus::bar_type>;
    recording_bus(Bus inner, std::shared_ptr<recorder> r)
        : bus_(std::move(inner)), recorder_(std::move(r)), device_(recorder_->add_device(bus_.ids())) {}

    /// Over a bus of its own, with a recorder of its own.
    template <class... Args>
    [[nodiscard]] static result<recording_bus> open(Args&&... args) {
        auto b = Bus::open(std::forward<Args>(args)...);
        if (!b) return forward_error(b);
        return recording_bus(std::move(*b), std::make_shared<recorder>());
    }
    template <class Address>
    [[nodiscard]] static result<sys::pci_ids> ids_of(const Address& address) { return Bus::ids_of(address); }
    [[nodiscard]] static const char* mode() noexcept { return Bus::mode(); }

    [[nodiscard]] recorder& record() const noexcept { return *recorder_; }
    [[nodiscard]] unsigned number() const noexcept { return device_; }
    [[nodiscard]] Bus& inner() noexcept { return bus_; }

    [[nodiscard]] std::string name() const { return bus_.name(); }
    [[nodiscard]] sys::pci_ids ids() const noexcept { return bus_.ids(); }
    [[nodiscard]] bool no_iommu() const noexcept {
        if constexpr (requires { bus_.no_iommu(); }) return bus_.no_iommu();
        else return false;
    }
    [[nodiscard]] result<bar_type> bar(unsigned n) {
        auto b = bus_.bar(n);
        if (!b) return forward_error(b);
        return bar_type(*b, *recorder_, device_);
    }
    [[nodiscard]] std::uint32_t config_read(unsigned offset, unsigned bytes) const noexcept { return bus_.config_read(offset, bytes); }
    [[nodiscard]] result<void> bus_master(bool on) {
        recorder_->event("master %x %x\n", device_, unsigned{on});
        auto ok = bus_.bus_master(on);
        recorder_->settle();
        return ok;
    }
    [[nodiscard]] result<void> reset() {
        recorder_->event("reset %x\n", device_);
        auto ok = bus_.reset();
        recorder_->settle();
        return ok;
    }
    [[nodiscard]] unsigned irq_count(sys::irq_kind kind) const noexcept { return bus_.irq_count(kind); }
    [[nodiscard]] result<void> set_irqs(sys::irq_kind kind, std::span<const int> fds) {
        recorder_->event("irqs %x %x %x\n", device_, static_cast<unsigned>(kind), static_cast<unsigned>(fds.size()));
        return bus_.set_irqs(kind, fds);
    }
    void unmask_intx() noexcept { bus_.unmask_intx(); }
    [[nodiscard]] result<std::uint64_t> dma_map(void* memory, std::size_t size) {
        auto at = bus_.dma_map(memory, size);
        if (at) recorder_->mapped(device_, memory, size, *at);
        return at;
    }
    [[nodiscard]] result<void> dma_unmap(std::uint64_t iova) {
        recorder_->unmapped(device_, iova);
        return bus_.dma_unmap(iova);
    }

private:
    Bus bus_;
    std::shared_ptr<recorder> recorder_;
    unsigned device_;
};

}  // namespace nm
