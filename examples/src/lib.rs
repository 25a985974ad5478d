//! What the examples share: finding a model, choosing a device.

pub mod device;
