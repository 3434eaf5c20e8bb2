# SPDX-License-Identifier: BSD-2-Clause
"""What check-docs is made of: blocks finds what the documents say, terminals runs it, snippets compiles it, selftest tries all of that."""
