// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// A few fixed instructions need neither clang nor ELF: they are written out here and loaded as they are.

#include <bpf/bpf.h>
#include <cstddef>
#include <cstdint>
#include <linux/bpf.h>
#include <span>
#include <string>

#include "nm/base/os.hpp"

namespace nm::sys::bpf {

// Newer than Debian 12's headers.
inline constexpr int tcx_ingress = 46;
inline constexpr int tcx_egress = 47;
inline constexpr std::uint32_t prog_xdp_has_frags = 1U << 5;

[[nodiscard]] constexpr bpf_insn insn(int code, int dst, int src, int off, std::int32_t imm) noexcept {
    bpf_insn i{};
    i.code = static_cast<std::uint8_t>(code);
    i.dst_reg = static_cast<std::uint8_t>(dst & 0xf);
    i.src_reg = static_cast<std::uint8_t>(src & 0xf);
    i.off = static_cast<std::int16_t>(off);
    i.imm = imm;
    return i;
}
[[nodiscard]] constexpr bpf_insn mov_imm(int dst, std::int32_t imm) noexcept {
    return insn(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, imm);
}
[[nodiscard]] constexpr bpf_insn load_u32(int dst, int src, std::size_t off) noexcept {
    return insn(BPF_LDX | BPF_MEM | BPF_W, dst, src, static_cast<int>(off), 0);
}
[[nodiscard]] constexpr bpf_insn store_u32(int dst, int src, std::size_t off) noexcept {
    return insn(BPF_STX | BPF_MEM | BPF_W, dst, src, static_cast<int>(off), 0);
}
[[nodiscard]] constexpr bpf_insn jump_if_not_equal(int reg, std::int32_t imm, int skip) noexcept {
    return insn(BPF_JMP | BPF_JNE | BPF_K, reg, 0, skip, imm);
}
[[nodiscard]] constexpr bpf_insn call(std::int32_t function) noexcept { return insn(BPF_JMP | BPF_CALL, 0, 0, 0, function); }
[[nodiscard]] constexpr bpf_insn exit_program() noexcept { return insn(BPF_JMP | BPF_EXIT, 0, 0, 0, 0); }

/// Returns the descriptor, or an invalid one with errno set. The kernel's own words are not kept: these programs are
/// fixed, so a refusal is about privileges or the kernel, never about the instructions.
[[nodiscard]] inline base::unique_fd load(bpf_prog_type type, const char* name, std::span<const bpf_insn> code,
                                          std::uint32_t flags = 0) noexcept {
    bpf_prog_load_opts opts{};
    opts.sz = sizeof opts;
    opts.prog_flags = flags;
    const int fd = ::bpf_prog_load(type, name, "Dual BSD/GPL", code.data(), code.size(), &opts);
    if (fd < 0) errno = -fd;
    return base::unique_fd(fd < 0 ? -1 : fd);
}

[[nodiscard]] inline base::unique_fd link(int program, unsigned ifindex, int attach_type, std::uint32_t flags) noexcept {
    bpf_link_create_opts opts{};
    opts.sz = sizeof opts;
    opts.flags = flags;
    const int fd =
        ::bpf_link_create(program, static_cast<int>(ifindex), static_cast<bpf_attach_type>(attach_type), &opts);
    if (fd < 0) errno = -fd;
    return base::unique_fd(fd < 0 ? -1 : fd);
}

}  // namespace nm::sys::bpf
