"""The maths: tensors in, tensors out.

Names end in the letters of their shape: O outputs of a layer, I inputs, G groups of inputs, S inputs of one group.
"""
