//! What shall be done, then do it: context, bases, plan, rootfs, execute.
