// SPDX-License-Identifier: BSD-2-Clause
// CODEGEN: no loop found
int codegen_no_loop(int a) { return a + 1; }
