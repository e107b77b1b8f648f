//! RUN on Kubernetes: a delegated part of a build becomes a pod, and the pod a digest.
