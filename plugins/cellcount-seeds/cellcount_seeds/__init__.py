"""The classifiers of four bone-marrow papers, offered in the group ``cellcount.classifiers``.

001  Wang, Shang and Zhang, A Study of the Classification Method of Bone Marrow Blood Cells Based
     on MobileVit (ASRJETS); 000 is the same paper in another print.
002  Application of Deep Learning Neural Networks in the Identification of Abnormal Bone Marrow
     Cells (project BT5153, github.com/saejin123/BT5153_Final_Project).
003  Fine-Grained Classification of Bone Marrow Blood Cells Using ResNet-50 CNN and Pretrained ViT
     Transformer (project report).

``python -m cellcount_seeds`` prints the published sizes beside those built here.
"""
