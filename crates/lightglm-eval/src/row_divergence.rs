//! The divergence of one row of logits from another. Shapes: `V` vocab_size.

/// `KL(P || Q) = sum(p * (ln p - ln q))` in nats of two rows `[V]` with their [`log_sum_exp`]s.
///
/// A token with `p = 0` adds nothing, whatever `q` is; one with `q = 0 < p` makes it infinite.
pub(crate) fn kl_divergence(p: &[f32], p_lse: f64, q: &[f32], q_lse: f64) -> f64 {
    let term = |(&p, &q): (&f32, &f32)| {
        let (ln_p, ln_q) = (f64::from(p) - p_lse, f64::from(q) - q_lse);
        if ln_p == f64::NEG_INFINITY { 0.0 } else { ln_p.exp() * (ln_p - ln_q) }
    };
    p.iter().zip(q).map(term).sum()
}

#[cfg(test)]
mod tests {
    use lightglm_generation::log_softmax::log_sum_exp;

    use super::*;

    #[test]
    fn divergence_of_known_rows() {
        let row = |p: &[f64]| p.iter().map(|&p| p.ln() as f32).collect::<Vec<_>>();
        let (p, q) = (row(&[0.5, 0.5, 0.0]), row(&[0.25, 0.5, 0.25]));
        let kld = kl_divergence(&p, log_sum_exp(&p), &q, log_sum_exp(&q));
        assert!((kld - 0.5 * 2.0_f64.ln()).abs() < 1e-7);
        assert_eq!(kl_divergence(&q, log_sum_exp(&q), &p, log_sum_exp(&p)), f64::INFINITY);
        assert_eq!(kl_divergence(&p, log_sum_exp(&p), &p, log_sum_exp(&p)), 0.0);
    }
}
